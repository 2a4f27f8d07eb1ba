from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condetr.data.findings import findings_of, leniently
from condetr.data.recognise import recognise
from condetr.data.sources import open_data, open_split
from condetr.errors import InputError

Write = Callable[..., Path]


@pytest.fixture
def write_yolo(tmp_path: Path) -> Write:
    """Writes images and, where the text is not None, their label files; other keywords are text files."""

    def write(labels: dict[str, str | None], **texts: str) -> Path:
        for image, text in labels.items():
            path = tmp_path / image
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (100, 50)).save(path)
            if text is not None:
                label = tmp_path / image.replace("images", "labels").replace(".png", ".txt")
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text(text)
        for name, text in texts.items():
            (tmp_path / name.replace("_", ".")).write_text(text)
        return tmp_path

    return write


LINE = "0 .5 .5 .2 .4\n"


def test_boxes_are_scaled_by_the_size_of_their_image(write_yolo: Write) -> None:
    split = open_split(write_yolo({"images/a.png": "1 .5 .5 .2 .4\n\n0 .1 .1 .2 .2\n"}, classes_txt="cat\ndog\n"))

    np.testing.assert_allclose(split.records[0].boxes_xyxy, [[40, 15, 60, 35], [0, 0, 20, 10]], atol=1e-9)
    assert split.records[0].labels.tolist() == [1, 0]
    assert list(split.label_map.categories) == [(0, "cat"), (1, "dog")]


@pytest.mark.parametrize(
    ("train", "val", "yaml"),
    [
        ("images/train", "images/val", "names: [cat]\ntrain: images/train\nval: images/val\n"),
        ("train/images", "valid/images", "names: [cat]\nnc: 1\ntrain: ../train/images\nval: ../valid/images\n"),
        ("images/train", "images/val", "path: .\nnames: {0: cat}\ntrain: [images/train]\nval: images/val\n"),
    ],
)
def test_a_data_yaml_names_splits_and_classes(write_yolo: Write, train: str, val: str, yaml: str) -> None:
    folder = write_yolo({f"{train}/a.png": LINE, f"{val}/b.png": LINE}, data_yaml=yaml)

    for path in (folder, folder / "data.yaml"):
        data = open_data(path)
        assert (data.layout, data.train.name, data.val.name) == ("yolo", "train", "val")
        assert [len(record.labels) for record in (*data.train.records, *data.val.records)] == [1, 1]


@pytest.mark.parametrize(("train", "val"), [("images/train", "images/val"), ("train/images", "valid/images")])
def test_without_yaml_the_folders_name_the_splits(write_yolo: Write, train: str, val: str) -> None:
    data = open_data(write_yolo({f"{train}/a.png": LINE, f"{val}/b.png": LINE}, classes_txt="cat"))

    assert (len(data.train), len(data.val)) == (1, 1)


def test_a_missing_test_split_is_refused_only_where_it_is_asked_for(write_yolo: Write) -> None:
    yaml = "names: [cat]\ntrain: ../images\nval: ../images\ntest: ../test/images\n"
    folder = write_yolo({"images/a.png": LINE}, data_yaml=yaml)

    assert len(open_data(folder).train) == 1
    with pytest.raises(InputError, match=r"data\.yaml: test is '\.\./test/images', which is neither"):
        open_split(folder, split="test")


def test_the_doctor_says_that_the_test_split_is_missing_and_goes_on(write_yolo: Write) -> None:
    yaml = "names: [cat]\ntrain: images\ntest: nowhere\n"
    source = recognise(write_yolo({"images/a.png": LINE}, data_yaml=yaml))

    raw, notes = leniently(source.read(source.splits))

    assert list(raw.images) == ["train"]
    assert [(f.severity, f.what) for f in findings_of(notes)] == [("warning", "1 split named but missing, left out")]


CAT_YAML = "names: [cat]\ntrain: images\n"


@pytest.mark.parametrize("text", ["names: [dog]\ntrain: images\n", "services: [", "- 1\n"])
@pytest.mark.parametrize("usual", ["data_yaml", "dataset_yml"])
def test_other_yaml_files_do_not_matter_beside_the_usual_one(write_yolo: Write, usual: str, text: str) -> None:
    folder = write_yolo({"images/a.png": LINE}, **{usual: CAT_YAML, "compose_yaml": text})

    assert open_split(folder).label_map.names == ("cat",)


def test_a_yaml_file_of_any_name_is_taken_where_it_alone_describes_data(write_yolo: Write) -> None:
    texts = {"coco8_yaml": CAT_YAML, "broken_yaml": "a: [", "hyp_yaml": "lr0: 1\n", "_data_yaml": "a: ["}

    assert open_split(write_yolo({"images/a.png": LINE}, **texts)).label_map.names == ("cat",)


@pytest.mark.parametrize("names", [("a_yaml", "b_yml"), ("data_yaml", "dataset_yaml")])
def test_of_several_yaml_files_one_must_be_pointed_at(write_yolo: Write, names: tuple[str, str]) -> None:
    folder = write_yolo({"images/a.png": LINE}, **dict.fromkeys(names, CAT_YAML))
    first, second = (name.replace("_", ".") for name in names)

    with pytest.raises(InputError, match=rf"several files .* give the one to use of {first}, {second}"):
        open_split(folder)
    assert len(open_split(folder / second)) == 1


def test_a_yaml_file_may_name_the_validation_split_alone(write_yolo: Write) -> None:
    folder = write_yolo({"images/a.png": LINE}, data_yaml="names: [cat]\nval: images\n")

    assert open_split(folder).name == "val"


def test_names_that_look_like_other_yaml_values_stay_names(write_yolo: Write) -> None:
    yaml = "names: [no, yes, 5, 1e-4]\ntrain: images\n"

    assert open_split(write_yolo({"images/a.png": LINE}, data_yaml=yaml)).label_map.names[:3] == ("no", "yes", "5")


def test_lists_of_images_are_read_from_the_data_folder(write_yolo: Write) -> None:
    folder = write_yolo(
        {"images/a.png": LINE, "images/b.png": LINE, "images/c.png": LINE},
        data_yaml="names: {0: cat, 7: dog}\ntrain: train.txt\nval: images/c.png\n",
        train_txt="images/a.png\n./images/b.png\nimages/a.png\n",
    )
    (folder / "val.txt").write_text(f"{folder}/images/c.png\n")
    (folder / "data.yaml").write_text("names: {0: cat, 7: dog}\ntrain: train.txt\nval: val.txt\n")
    data = open_data(folder)

    assert [record.path.name for record in data.train.records] == ["a.png", "b.png"]
    assert [record.path.name for record in data.val.records] == ["c.png"]
    assert data.train.label_map.dataset_ids == (0, 7)
    assert "1 image listed more than once, read once" in [finding.what for finding in data.findings]


def test_images_without_label_file_or_line_have_no_boxes(write_yolo: Write) -> None:
    labels = {"images/a.png": LINE, "images/b.png": None, "images/c.png": ""}

    assert [len(r.labels) for r in open_split(write_yolo(labels, classes_txt="cat")).records] == [1, 0, 0]


def test_polygons_become_their_bounding_boxes_and_are_counted(write_yolo: Write) -> None:
    labels = {"images/a.png": "0 .1 .2 .3 .2 .2 .6\n", "images/b.png": LINE}
    data = open_data(write_yolo(labels, data_yaml="names: [cat]\ntrain: images\nval: images\n"))

    np.testing.assert_allclose(data.train.records[0].boxes_xyxy, [[10, 10, 30, 30]])
    assert any("polygon" in finding.what for finding in data.findings)


def test_folders_named_like_coco_are_splits(write_yolo: Write) -> None:
    data = open_data(write_yolo({"images/train2017/a.png": LINE, "images/val2017/b.png": LINE}, classes_txt="cat"))

    assert (data.train.name, data.val.name) == ("train2017", "val2017")


@pytest.mark.parametrize(("images", "labels"), [("images/{}", "labels/{}"), ("{}/images", "{}/labels")])
@pytest.mark.parametrize("split", ["val", "valid", "train2017"])
def test_a_split_folder_without_labels_is_refused(write_yolo: Write, images: str, labels: str, split: str) -> None:
    files = {f"{images.format(split)}/a.png": None, f"{images.format('train')}/b.png": LINE}

    with pytest.raises(InputError, match=f"there is no folder .*/{labels.format(split)}: add it"):
        open_data(write_yolo(files, classes_txt="cat"))


def test_a_test_folder_without_labels_is_refused_only_where_it_is_asked_for(write_yolo: Write) -> None:
    files = {f"images/{split}/{split}.png": LINE for split in ("train", "val")}
    folder = write_yolo(files | {"images/test/c.png": None}, classes_txt="cat")

    assert len(open_data(folder).val) == 1
    with pytest.raises(InputError, match=r"there is no folder .*/labels/test"):
        open_split(folder, split="test")


def test_folders_with_labels_that_are_no_split_are_named(write_yolo: Write) -> None:
    files: dict[str, str | None] = {f"images/{name}/{name}.png": LINE for name in ("extra", "train", ".old", "val")}
    data = open_data(write_yolo(files | {"images/unlabelled/b.png": None}, classes_txt="cat"))

    (found,) = [finding for finding in data.findings if finding.severity == "warning"]

    assert (found.what, found.examples) == (
        "1 folder with labels but not named like a split, left out",
        ("images/extra",),
    )


def test_images_beside_the_folders_of_the_splits_are_named(write_yolo: Write) -> None:
    files: dict[str, str | None] = {"images/train/a.png": LINE, "images/val/b.png": LINE, "images/unlabelled.png": None}
    folder = write_yolo(files, classes_txt="cat")
    assert not [finding for finding in open_data(folder).findings if finding.severity == "warning"]

    data = open_data(write_yolo({"images/loose.png": LINE}))

    (found,) = [finding for finding in data.findings if finding.severity == "warning"]
    assert found.examples == ("images",)


@pytest.mark.parametrize("name", ["street", "trainees"])
def test_folders_not_named_like_splits_are_one_split(write_yolo: Write, name: str) -> None:
    folder = write_yolo({f"images/{name}/a.png": LINE, "images/b/b.png": LINE}, classes_txt="cat")

    assert len(open_split(folder, split="all")) == 2


POSE_YAML = "names: [cat]\ntrain: images\nkpt_shape: [2, 3]\n"


def test_keypoints_behind_a_box_are_passed_over(write_yolo: Write) -> None:
    labels = {"images/a.png": "0 .5 .5 .2 .4 .1 .1 2 0 0 0\n" + LINE}
    data = open_data(write_yolo(labels | {"images/b.png": LINE}, data_yaml=POSE_YAML + "val: images\n"))

    np.testing.assert_allclose(data.train.records[0].boxes_xyxy, [[40, 15, 60, 35]] * 2)
    assert not any("polygon" in finding.what for finding in data.findings)


def test_a_line_of_other_than_the_named_keypoints_is_refused(write_yolo: Write) -> None:
    folder = write_yolo({"images/a.png": "0 .5 .5 .2 .4 .1 .1 2\n"}, data_yaml=POSE_YAML)

    with pytest.raises(InputError, match=r"a\.txt: line 1 must .*, alone or before 6 numbers of keypoints"):
        open_split(folder)


def test_labels_may_lie_beside_the_images(write_yolo: Write) -> None:
    folder = write_yolo({"photos/a.png": LINE}, data_yaml="names: [cat]\ntrain: photos\n")

    assert open_split(folder).records[0].labels.tolist() == [0]


def test_images_of_linked_folders_are_read(write_yolo: Write) -> None:
    folder = write_yolo({"images/a.png": LINE, "elsewhere/b.png": None}, classes_txt="cat")
    (folder / "images" / "linked").symlink_to(folder / "elsewhere")
    (folder / "labels" / "linked").mkdir()
    (folder / "labels" / "linked" / "b.txt").write_text(LINE)

    assert [(r.path.name, len(r.labels)) for r in open_split(folder).records] == [("a.png", 1), ("b.png", 1)]


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), ("photos", "photos")])
def test_labels_without_an_image_are_counted(write_yolo: Write, images: str, labels: str) -> None:
    yaml = f"names: [cat]\ntrain: {images}\nval: {images}\n"
    folder = write_yolo({f"{images}/a.png": LINE}, data_yaml=yaml)
    (folder / images / "b.heic").touch()
    (folder / labels / "b.txt").write_text(LINE)

    (found,) = [finding for finding in open_data(folder).findings if "without an image" in finding.what]

    assert (found.severity, found.count, found.examples) == ("warning", 1, (f"{labels}/b.txt",))


@pytest.mark.parametrize(
    ("name", "text"),
    [("classes.txt", "1 2 3 4 5"), ("notes.txt", "seen 1 2 3 4"), ("train.txt", "./images/a.png"), ("empty.txt", "")],
)
def test_lists_and_notes_are_no_labels_without_an_image(write_yolo: Write, name: str, text: str) -> None:
    folder = write_yolo({"images/a.png": LINE, "images/b.png": LINE}, classes_txt="cat")
    (folder / "labels" / name).write_text(text)

    assert not any("without an image" in finding.what for finding in open_data(folder).findings)


def test_a_folder_that_links_lead_to_again_is_read_once_under_its_own_name(write_yolo: Write) -> None:
    folder = write_yolo({"images/real/a.png": LINE}, classes_txt="cat")
    (folder / "images" / "again").symlink_to(folder / "images" / "real")
    (folder / "images" / "real" / "up").symlink_to(folder / "images")

    assert [(r.path.parent.name, len(r.labels)) for r in open_split(folder).records] == [("real", 1)]


@pytest.mark.parametrize("hidden", ["images/._a.png", "images/.ipynb_checkpoints/a-checkpoint.png"])
def test_hidden_files_and_folders_are_no_images(write_yolo: Write, hidden: str) -> None:
    folder = write_yolo({"images/a.png": LINE, hidden: None}, classes_txt="cat")

    assert [record.path.name for record in open_split(folder).records] == ["a.png"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0 .5 .5 .2", "line 1 must hold a class number and four finite numbers"),
        ("0 .5 .5 .2 .4 .9", "line 1 must hold"),
        ("0 .5 .5 .2 nan", "line 1 must hold"),
        ("cat .5 .5 .2 .4", "line 1 must hold"),
        ("0 50 20 10 10", "line 1 must be relative"),
        ("2 .5 .5 .2 .4", "line 1 has class 2, which is not"),
        ("0.5 .5 .5 .2 .4", r"line 1 has class 0\.5"),
    ],
)
def test_faulty_lines_are_refused(write_yolo: Write, line: str, complaint: str) -> None:
    with pytest.raises(InputError, match=rf"a\.txt: {complaint}"):
        open_split(write_yolo({"images/a.png": line}, classes_txt="cat\ndog\n"))


def test_a_label_file_that_is_no_text_is_refused(write_yolo: Write) -> None:
    folder = write_yolo({"images/a.png": ""}, classes_txt="cat")
    (folder / "labels" / "a.txt").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InputError, match="not a text file"):
        open_split(folder)


@pytest.mark.parametrize(
    ("yaml", "complaint"),
    [
        ("names: [", "not valid YAML"),
        ("names: [cat]\ntrain: 5\n", "train: input should be a valid"),
        ("names: 3\ntrain: images\n", "names: input should be"),
        ("names: [cat]\ntrain: nowhere\n", r"data\.yaml: train is 'nowhere', which is neither a folder nor a list"),
        ("names: [cat]\ntrain: gone\npath: nowhere\n", "nowhere, which is no folder; and .*train is 'gone'"),
        ("names: [cat, '']\ntrain: images\n", "class without a name"),
        ("names: [cat, cat]\ntrain: images\n", "own name, but cat"),
        ("names: [cat]\ntrain: list.txt\n", "leads out of the data folder"),
        ("names: [cat]\ntrain: images\nval: nowhere\n", r"data\.yaml: val is 'nowhere'"),
        ("names: [cat]\ntrain:\ntest: nowhere\n", r"data\.yaml: test is 'nowhere'"),
        ("names: [cat]\ntrain:\n", "names none of the splits"),
    ],
)
def test_a_faulty_yaml_is_refused(write_yolo: Write, yaml: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        open_split(write_yolo({"images/a.png": LINE}, data_yaml=yaml, list_txt="../../z.png"))


def test_classes_without_names_are_called_by_their_numbers_over_all_splits(write_yolo: Write) -> None:
    files: dict[str, str | None] = {"images/train/a.png": LINE, "images/val/b.png": "7 .5 .5 .2 .4\n"}
    data = open_data(write_yolo(files))

    assert list(data.train.label_map.categories) == [(0, "class 0"), (7, "class 7")]
    assert open_split(write_yolo({}), split="train").label_map == data.train.label_map
    assert [finding.count for finding in data.findings if "without a name" in finding.what] == [2]


def test_an_empty_line_among_class_names_is_refused_and_does_not_shift_the_rest(write_yolo: Write) -> None:
    with pytest.raises(InputError, match="has a class without a name"):
        open_data(write_yolo({"images/a.png": LINE}, classes_txt="cat\n\ndog"))
    assert open_split(write_yolo({"images/a.png": LINE}, classes_txt="cat\ndog\n\n")).label_map.names == ("cat", "dog")
