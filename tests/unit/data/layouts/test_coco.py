import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from condetr.data.dataset import Finding
from condetr.data.findings import Fault, leniently, places_of
from condetr.data.recognise import recognise
from condetr.data.sources import open_data, open_split
from condetr.errors import InputError

Folder = Callable[..., Path]


def box(number: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"id": number, "image_id": number, "category_id": 3, "bbox": [4, 5, 20, 10], **changes}


def images(*names: str) -> list[dict[str, Any]]:
    return [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)]


def found(findings: tuple[Finding, ...], words: str) -> Finding:
    (finding,) = [finding for finding in findings if words in finding.what]
    return finding


def test_category_ids_with_holes_become_contiguous_training_ids_in_the_order_of_dataset_ids(
    coco_folder: Folder,
) -> None:
    split = open_split(coco_folder())

    assert split.label_map.to_list() == [
        {"training_id": 0, "dataset_id": 3, "name": "cat"},
        {"training_id": 1, "dataset_id": 7, "name": "dog"},
    ]
    assert [record.labels.tolist() for record in split.records] == [[0], [1], [0]]


def test_boxes_become_corners_and_ids_and_areas_stay_those_of_the_file(coco_folder: Folder) -> None:
    first, second, _ = open_split(coco_folder([box(1, area=77.5), box(2), box(3)])).records

    assert first.image_id == 1
    assert first.path.name == "1.png"
    assert first.size_hw == (48, 64)
    np.testing.assert_array_equal(first.boxes_xyxy, [[4, 5, 24, 15]])
    assert (first.areas.tolist(), second.areas.tolist()) == ([77.5], [200.0])


def test_images_without_boxes_are_kept_and_counted(coco_folder: Folder) -> None:
    data = open_data(coco_folder([box(1), box(2)]), seed=1)

    assert len(data.train) + len(data.val) == 3
    assert found(data.findings, "without boxes, kept").count == 1


def test_crowd_regions_are_kept_as_such(coco_folder: Folder) -> None:
    annotations = [box(1), box(2, iscrowd=1), box(2, id=4), box(3)]
    records = open_split(coco_folder(annotations)).records

    assert records[1].is_crowd.tolist() == [True, False]
    assert found(open_data(coco_folder(annotations)).findings, "crowd").examples == ("train.json: annotation 2",)


def test_boxes_are_clipped_and_those_without_area_inside_are_left_out(coco_folder: Folder) -> None:
    outside = [[-3, 5, 13, 10], [60, 40, 20, 20], [70, 5, 5, 5], [10, 10, 0, 5], [10, 10, -4, 5]]
    annotations = [box(number, image_id=1, bbox=bbox) for number, bbox in enumerate(outside, start=10)]
    data = open_data(coco_folder([*annotations, box(2), box(3)]))
    record = next(record for part in (data.train, data.val) for record in part.records if record.image_id == 1)

    assert record.boxes_xyxy.tolist() == [[0, 5, 10, 15], [60, 40, 64, 48]]
    assert found(data.findings, "clipped").examples == ("images/1.png: annotation 10", "images/1.png: annotation 11")
    assert found(data.findings, "wholly outside").examples == ("images/1.png: annotation 12",)
    assert found(data.findings, "without area").count == 2


def test_annotations_of_unlisted_images_and_repeated_ids_are_counted(coco_folder: Folder) -> None:
    findings = open_data(coco_folder([box(1), box(2), box(3), box(3), box(9)])).findings

    assert found(findings, "does not list").examples == ("train.json: annotation 9 of image 9",)
    assert found(findings, "with an id that another").examples == ("train.json: annotation 3",)


def test_near_repetitions_of_a_box_are_counted_within_their_class(coco_folder: Folder) -> None:
    twins = [box(1), box(4, image_id=1, bbox=[4, 5, 20, 10.5]), box(5, image_id=1, category_id=7)]
    findings = open_data(coco_folder([*twins, box(2), box(3)])).findings

    assert found(findings, "almost the same").examples == ("images/1.png: annotation 4",)


def test_a_size_that_is_not_the_file_s_is_counted_and_the_file_s_is_taken(coco_folder: Folder) -> None:
    listed = [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 50 if n == 2 else 48} for n in (1, 2, 3)]
    data = open_data(coco_folder(images=listed))

    assert found(data.findings, "another size").examples == (
        "images/2.png: 64x50 in the annotations, 64x48 in the file",
    )
    assert {record.size_hw for record in data.train.records} == {(48, 64)}


def test_a_size_from_before_the_exif_rotation_is_told_apart(coco_folder: Folder) -> None:
    folder = coco_folder()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    Image.new("RGB", (64, 48)).save(folder / "images" / "2.png", exif=exif)
    data = open_data(folder, val_split="train")

    assert found(data.findings, "before EXIF rotation").examples == (
        "images/2.png: 64x48 in the annotations, 48x64 in the file",
    )
    assert data.train.records[1].size_hw == (64, 48)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"annotations": [box(1, bbox=[1, 2, 3])]}, "annotation 1 has bbox .1, 2, 3.: expected four finite numbers"),
        ({"annotations": [box(1), box(2, bbox=[1, 2, 3, float("nan")])]}, "annotation 2 has bbox .*nan"),
        ({"annotations": [box(1, bbox=[1, 2, 3, "4"])]}, "annotation 1 has bbox"),
        ({"annotations": [box(1, bbox=None)]}, "annotation 1 has bbox None"),
        ({"annotations": [box(1, image_id="1")]}, "annotation 1 has image_id '1'"),
        ({"annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4]}]}, "annotation 1 has no category_id"),
        ({"annotations": [box(1, category_id=4)]}, "annotation 1 has category_id 4, which no category has"),
        ({"annotations": [5]}, "not a COCO file.*annotations.0"),
        ({"annotations": []}, "has no boxes"),
        ({"annotations": [box(1, iscrowd=1)]}, "has no boxes"),
        ({"categories": [{"id": 3}]}, "category 3 has no name"),
        ({"categories": [{"id": 3, "name": " "}]}, "category 3 has name ' '"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}, "own id, but 3"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 7, "name": "a"}]}, "own name, but a"),
        ({"categories": []}, "no categories"),
        ({"images": []}, "lists no images"),
        ({"images": {}}, "not a COCO file.*images"),
        ({"images": [{"id": 1, "file_name": "1.png"}, {"id": 1, "file_name": "2.png"}]}, "several images of id 1"),
        ({"images": images("1.png", "../../no.png")}, "leads out of the data folder"),
        ({"images": images("1.png", "..\\..\\no.png")}, "leads out of the data folder"),
        ({"images": images("1.png", "/etc/no.png")}, "leads out of the data folder"),
        ({"images": images("no.png")}, "images of .* are not there: no file below .* is called no.png"),
        ({"images": images("1.png", "no.png", "3.png")}, "no.png does not exist"),
        (
            {"images": images("1.png", "no.png", "none.png")},
            "in the split 'train' 2 images are missing .*no.png does not exist",
        ),
    ],
)
def test_faulty_content_is_refused(coco_folder: Folder, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        open_data(coco_folder(**changes))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[]", "not a COCO file"),
        ('{"images": []}', "`annotations`"),
        ("\xff", "JSON"),
    ],
)
def test_a_file_that_is_no_coco_json_is_refused(coco_folder: Folder, text: str, complaint: str) -> None:
    file = coco_folder() / "annotations" / "train.json"
    file.write_text(text, encoding="latin-1")

    for path in (file, file.parent.parent):
        with pytest.raises(InputError, match=complaint):
            open_data(path)


def test_missing_and_broken_images_can_be_left_out(coco_folder: Folder) -> None:
    folder = coco_folder(images=images("1.png", "no.png", "3.png", "2.png"))
    (folder / "images" / "2.png").write_bytes(b"broken")
    data = open_data(folder, skip_unreadable=True)

    assert len(data.train) + len(data.val) == 2
    assert found(data.findings, "missing or unreadable").count == 2


def test_a_linked_image_folder_is_followed(coco_folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, elsewhere = coco_folder(), tmp_path_factory.mktemp("elsewhere")
    shutil.move(folder / "images", elsewhere / "store")
    (folder / "images").symlink_to(elsewhere / "store")

    assert len(open_split(folder)) == 3


TRAIN_VAL_LAYOUTS = {
    "published": (
        ["annotations/instances_train2017.json", "annotations/instances_val2017.json", "annotations/captions_val.json"],
        ["train2017", "val2017"],
        ("train2017", "val2017"),
    ),
    "roboflow": (
        ["train/_annotations.coco.json", "valid/_annotations.coco.json"],
        ["train", "valid"],
        ("train", "valid"),
    ),
    "one image folder": (["annotations/train.json", "annotations/val.json"], ["images"], ("train", "val")),
    "files on top": (["train.json", "val.json"], ["images/train", "images/val"], ("train", "val")),
    "fiftyone": (["train/labels.json", "val/labels.json"], ["train/data", "val/data"], ("train", "val")),
}


@pytest.mark.parametrize("layout", TRAIN_VAL_LAYOUTS)
def test_the_usual_places_are_recognised(coco_folder: Folder, tmp_path: Path, layout: str) -> None:
    files, image_folders, names = TRAIN_VAL_LAYOUTS[layout]
    written, arranged = coco_folder(), tmp_path / "arranged"
    for folder in image_folders:
        shutil.copytree(written / "images", arranged / folder)
    for file in files:
        (arranged / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(written / "annotations" / "train.json", arranged / file)

    data = open_data(arranged)

    assert (data.layout, data.train.name, data.val.name) == ("coco", *names)


@pytest.mark.parametrize("place", ["labels.json", "images/labels.json"])
def test_a_file_can_be_given_itself(coco_folder: Folder, place: str) -> None:
    folder = coco_folder()
    (folder / "annotations" / "train.json").rename(folder / place)

    assert len(open_split(folder / place)) == 3


def write_val(folder: Path, **changes: Any) -> Path:  # noqa: ANN401
    content = json.loads((folder / "annotations" / "train.json").read_text())
    (folder / "annotations" / "val.json").write_text(json.dumps({**content, **changes}))
    return folder


def test_a_validation_split_may_have_further_categories(coco_folder: Folder) -> None:
    more = [{"id": 5, "name": "cow"}, {"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    data = open_data(write_val(coco_folder(), categories=more))

    assert data.train.label_map == data.val.label_map
    assert data.train.label_map.dataset_ids == (3, 5, 7)
    assert found(data.findings, "without a box in the training split").examples == ("cow",)


@pytest.mark.parametrize("categories", [[{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}], [{"id": 3, "name": "x"}]])
def test_splits_that_disagree_about_a_category_are_refused(coco_folder: Folder, categories: list[Any]) -> None:
    with pytest.raises(InputError, match="splits disagree"):
        open_data(write_val(coco_folder(), categories=categories, annotations=[box(1)]))


def test_images_in_both_splits_are_counted(coco_folder: Folder) -> None:
    assert found(open_data(write_val(coco_folder())).findings, "both the training").count == 3


def test_a_validation_split_without_boxes_is_told(coco_folder: Folder) -> None:
    assert found(open_data(write_val(coco_folder(), annotations=[])).findings, "AP is undefined")


def test_the_unused_parent_category_of_roboflow_is_left_out_where_its_name_repeats(coco_folder: Folder) -> None:
    categories = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 3, "name": "cat", "supercategory": "cat"},
    ]
    data = open_data(coco_folder([box(1), box(2), box(3)], categories=categories))

    assert data.train.label_map.dataset_ids == (3,)
    assert found(data.findings, "named like another").examples == ("category 0 'cat'",)


def test_images_that_share_an_id_are_all_left_out_with_their_boxes(coco_folder: Folder) -> None:
    folder = coco_folder(images=[*images("1.png", "2.png"), {"id": 1, "file_name": "3.png"}])
    raw, notes = leniently(recognise(folder).read(["train"]))

    assert [image.path.name for image in raw.images["train"]] == ["2.png"]
    assert len(places_of(notes, Fault.REPEATED_IMAGE_ID)) == 2


def test_two_files_beside_the_images_of_a_split_are_refused(coco_folder: Folder) -> None:
    folder = coco_folder()
    for name in ("train", "val"):
        shutil.copytree(folder / "images", folder / name)
        shutil.copy(folder / "annotations" / "train.json", folder / name / "labels.json")
    shutil.rmtree(folder / "annotations")
    shutil.copy(folder / "train" / "labels.json", folder / "train" / "backup.json")

    with pytest.raises(
        InputError, match=r"train has several COCO files, where one is read: backup\.json, labels\.json"
    ):
        open_data(folder)


def test_a_file_is_known_by_its_lists_whatever_comes_first(coco_folder: Folder) -> None:
    folder = coco_folder()
    content = json.loads((folder / "annotations" / "train.json").read_text())
    shutil.rmtree(folder / "annotations")
    (folder / "labels.json").write_text(json.dumps({"version": "1.0", **content}))

    assert len(open_split(folder)) == 3


def test_whole_numbers_written_with_a_point_are_ids(coco_folder: Folder) -> None:
    folder = coco_folder([box(1, category_id=3.0), box(2, id=2.0, image_id=2.0)])
    boxes = open_split(folder).records

    assert [len(record.labels) for record in boxes] == [1, 1, 0]
    with pytest.raises(InputError, match=r"category_id 3\.5: input should be a valid integer"):
        open_split(coco_folder([box(1, category_id=3.5)]))
