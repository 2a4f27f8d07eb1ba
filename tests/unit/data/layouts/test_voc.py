import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condetr.data.findings import Fault, places_of, strictly
from condetr.data.recognise import recognise
from condetr.data.sources import open_data, open_split, read_split
from condetr.errors import InputError

Things = Sequence[tuple[str, Sequence[object]]]
TWO = {"a": [("cat", (1, 1, 10, 20))], "b": [("ant", (5, 6, 30, 40)), ("dog", (2, 2, 9, 9))]}


def voc_xml(things: Things, *, extra: str = "", head: str = "") -> str:
    objects = "".join(
        f"<object><name>{name}</name>{extra}<bndbox>"
        + "".join(
            f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox></object>"
        for name, box in things
    )
    return f"{head}<annotation><size><width>64</width><height>48</height></size>{objects}</annotation>"


@pytest.fixture
def write_voc(tmp_path: Path) -> Callable[..., Path]:
    def write(content: Mapping[str, str], lists: Mapping[str, str], *, root: Path = tmp_path) -> Path:
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for name, xml in content.items():
            for file in (root / "Annotations" / f"{name}.xml", root / "JPEGImages" / f"{name}.jpg"):
                file.parent.mkdir(parents=True, exist_ok=True)
            (root / "Annotations" / f"{name}.xml").write_text(xml)
            Image.new("RGB", (64, 48)).save(root / "JPEGImages" / f"{name}.jpg")
        for name, text in lists.items():
            (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
        return root

    return write


def test_boxes_of_pixels_from_1_become_edges_from_0(write_voc: Callable[..., Path]) -> None:
    data = open_data(write_voc({n: voc_xml(t) for n, t in TWO.items()}, {"train": "a\n", "val": "b\n"}))

    np.testing.assert_array_equal(data.train.records[0].boxes_xyxy, [[0, 0, 10, 20]])
    np.testing.assert_array_equal(data.val.records[0].boxes_xyxy, [[4, 5, 30, 40], [1, 1, 9, 9]])


def test_labels_are_the_sorted_names_of_all_splits_numbered_from_1(write_voc: Callable[..., Path]) -> None:
    folder = write_voc({n: voc_xml(t) for n, t in TWO.items()}, {"train": "a\n", "val": "b\n"})
    data = open_data(folder)

    assert data.layout == "voc"
    assert list(data.train.label_map.categories) == [(1, "ant"), (2, "cat"), (3, "dog")]
    assert data.train.label_map.ids_are_counted
    assert data.val.records[0].labels.tolist() == [0, 2]
    assert open_split(folder, split="train").label_map == data.train.label_map


def test_lists_name_the_splits_and_lists_of_single_classes_do_not(write_voc: Callable[..., Path]) -> None:
    lists = {"trainval": "a\nb\n", "test": "b\n", "cat_train": "a 1\nb -1\n"}
    folder = write_voc({n: voc_xml(t) for n, t in TWO.items()}, lists)

    with pytest.raises(InputError, match="no split 'cat_train'; it has: test, trainval"):
        open_data(folder, train_split="cat_train")
    data = open_data(folder, train_split="trainval", val_split="test")
    assert (len(data.train), len(data.val)) == (2, 1)


def test_names_in_a_list_may_hold_blanks(write_voc: Callable[..., Path]) -> None:
    folder = write_voc({"a": voc_xml(TWO["a"]), "my b": voc_xml(TWO["b"])}, {"train": "a\nmy b\n", "val": "a\n"})

    assert [record.path.name for record in open_data(folder).train.records] == ["a.jpg", "my b.jpg"]


def test_names_that_end_like_marks_are_names_where_such_images_are_annotated(write_voc: Callable[..., Path]) -> None:
    content = {"photo 1": voc_xml(TWO["a"]), "photo 0": voc_xml(TWO["b"])}

    assert open_data(write_voc(content, {"train": "photo 1\n", "val": "photo 0\n"})).train.name == "train"


def test_an_empty_list_is_a_split_without_images_and_refused_as_such(write_voc: Callable[..., Path]) -> None:
    folder = write_voc({n: voc_xml(t) for n, t in TWO.items()}, {"train": "\n", "val": "a\nb\n"})

    with pytest.raises(InputError, match=r"the split 'train' of .* has no image"):
        open_data(folder)


def test_a_list_may_be_called_all(write_voc: Callable[..., Path]) -> None:
    folder = write_voc({n: voc_xml(t) for n, t in TWO.items()}, {"all": "b\n"})

    assert len(open_split(folder)) == 1
    assert list(recognise(folder).places) == ["all"]


def test_train_and_val_are_taken_where_trainval_is_there_too(write_voc: Callable[..., Path]) -> None:
    lists = {"train": "a\n", "val": "b\n", "trainval": "a\nb\n"}
    data = open_data(write_voc({n: voc_xml(t) for n, t in TWO.items()}, lists))

    assert (data.train.name, data.val.name) == ("train", "val")


def test_without_lists_all_annotations_are_one_split(write_voc: Callable[..., Path]) -> None:
    assert len(open_split(write_voc({n: voc_xml(t) for n, t in TWO.items()}, {}))) == 2


def test_without_lists_images_without_annotation_are_kept_as_empty_and_named(write_voc: Callable[..., Path]) -> None:
    folder = write_voc({n: voc_xml(t) for n, t in TWO.items()}, {})
    for name in ("c.jpg", "._a.jpg", ".trash/d.jpg"):
        (folder / "JPEGImages" / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(folder / "JPEGImages" / name)
    data = open_data(folder, val_fraction=0.3)

    assert len(data.train) + len(data.val) == 3
    assert ("1 image without an annotation file, taken as without objects", ("JPEGImages/c.jpg",)) in [
        (finding.what, finding.examples) for finding in data.findings
    ]


def test_of_images_with_the_same_name_the_first_is_taken_and_the_others_are_named(
    write_voc: Callable[..., Path],
) -> None:
    folder = write_voc({n: voc_xml(t) for n, t in TWO.items()}, {})
    for name in ("a.png", "a.bmp", "b.PNG"):
        Image.new("RGB", (64, 48)).save(folder / "JPEGImages" / name)

    split, notes = strictly(read_split(folder))

    assert [record.path.name for record in split.records] == ["a.bmp", "b.PNG"]
    assert places_of(notes, Fault.NAMESAKE) == ("JPEGImages/a.jpg", "JPEGImages/a.png", "JPEGImages/b.jpg")


def test_hidden_annotation_files_are_passed_over(write_voc: Callable[..., Path]) -> None:
    folder = write_voc({n: voc_xml(t) for n, t in TWO.items()}, {})
    (folder / "Annotations" / "._a.xml").write_bytes(b"\x00\x05\x16\x07")

    assert len(open_split(folder)) == 2


@pytest.mark.parametrize("lists", [{}, {"val": "s/a\nt/a\nb\n"}])
def test_images_and_annotations_in_subfolders_are_read(
    write_voc: Callable[..., Path], lists: Mapping[str, str]
) -> None:
    folder = write_voc({"s/a": voc_xml(TWO["a"]), "t/a": voc_xml(TWO["b"]), "b": voc_xml(TWO["b"])}, lists)
    boxes = {record.path.relative_to(folder).as_posix(): len(record.labels) for record in open_split(folder).records}

    assert boxes == {"JPEGImages/s/a.jpg": 1, "JPEGImages/t/a.jpg": 2, "JPEGImages/b.jpg": 2}


@pytest.mark.skipif(os.geteuid() == 0, reason="every folder opens to root")
def test_a_subfolder_that_cannot_be_read_is_refused(write_voc: Callable[..., Path]) -> None:
    folder = write_voc({"a": voc_xml(TWO["a"]), "s/b": voc_xml(TWO["b"])}, {})
    (folder / "Annotations" / "s").chmod(0)

    with pytest.raises(InputError, match=r"cannot read the folder .*Annotations/s: Permission denied"):
        open_split(folder)


def test_subfolders_may_be_links_but_do_not_lead_in_circles(write_voc: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_voc({n: voc_xml(t) for n, t in TWO.items()}, {}, root=tmp_path / "voc")
    (tmp_path / "more").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "more" / "c.jpg")
    (folder / "JPEGImages" / "more").symlink_to(tmp_path / "more")
    (folder / "JPEGImages" / "again").symlink_to(folder / "JPEGImages")

    assert len(open_split(folder)) == 3


def test_a_data_set_below_vocdevkit_is_found(write_voc: Callable[..., Path], tmp_path: Path) -> None:
    write_voc({"a": voc_xml(TWO["a"])}, {}, root=tmp_path / "VOCdevkit" / "VOC2007")

    assert len(open_split(tmp_path)) == 1
    write_voc({"a": voc_xml(TWO["a"])}, {}, root=tmp_path / "VOCdevkit" / "VOC2012")
    with pytest.raises(InputError, match="several VOC data sets"):
        open_split(tmp_path)


def test_difficult_objects_are_ignored_like_crowds_and_counted(write_voc: Callable[..., Path]) -> None:
    hard = voc_xml(TWO["a"], extra="<difficult>1</difficult>")
    data = open_data(write_voc({"a": hard, "b": voc_xml(TWO["b"])}, {"train": "b", "val": "a"}))

    assert data.val.records[0].is_crowd.tolist() == [True]
    assert "1 difficult object not trained on, ignored in evaluation" in [finding.what for finding in data.findings]


@pytest.mark.parametrize("corners", [(9, 9, 9, 9), (9, 9, 5, 20)])
def test_boxes_whose_corners_coincide_or_cross_have_no_area(
    write_voc: Callable[..., Path], corners: Sequence[int]
) -> None:
    things = [("cat", corners), *TWO["a"]]
    data = open_data(write_voc({"a": voc_xml(things), "b": voc_xml(TWO["b"])}, {"train": "a", "val": "b"}))

    assert len(data.train.records[0].labels) == 1
    assert [finding.examples for finding in data.findings if "without area" in finding.what] == [
        ("JPEGImages/a.jpg: object 1 (cat)",)
    ]


def test_an_image_that_is_listed_twice_is_read_once(write_voc: Callable[..., Path]) -> None:
    data = open_data(write_voc({n: voc_xml(t) for n, t in TWO.items()}, {"train": "a\na\n", "val": "b"}))

    assert len(data.train) == 1
    assert "1 image listed more than once, read once" in [finding.what for finding in data.findings]


@pytest.mark.parametrize(
    ("xml", "complaint"),
    [
        ("<annotation>", r"a\.xml is not a usable annotation: no element found"),
        ("", r"a\.xml is not a usable annotation"),
        (voc_xml([("cat", ("x", 1, 2, 3))]), "object 1 has xmin 'x'"),
        (voc_xml([("cat", (1, 1, "nan", 3))]), "object 1 has xmax 'nan'"),
        (voc_xml([("", (1, 1, 2, 3))]), "object 1 has no name"),
        ("<annotation><object><name>cat</name></object></annotation>", "object 1 has no bndbox"),
        (voc_xml([("cat", (1, 1, 9, 9))], head='<!DOCTYPE x [<!ENTITY a "b">]>'), "declares a document type 'x'"),
        ("<annotation></annotation>", "hold no object"),
    ],
)
def test_faulty_annotations_are_refused(write_voc: Callable[..., Path], xml: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        open_split(write_voc({"a": xml}, {}))


@pytest.mark.parametrize(
    ("listed", "complaint"), [("a\nz\n", r"lacks 1 listed files, the first: z\.xml"), ("../a", "lacks 1")]
)
def test_a_listed_image_without_annotation_is_refused(
    write_voc: Callable[..., Path], listed: str, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        open_split(write_voc({"a": voc_xml(TWO["a"])}, {"train": listed}))


def test_a_photograph_of_another_kind_is_named_beside_the_missing_one(write_voc: Callable[..., Path]) -> None:
    folder = write_voc({n: voc_xml(t) for n, t in TWO.items()}, {})
    (folder / "JPEGImages" / "a.jpg").rename(folder / "JPEGImages" / "a.heic")

    with pytest.raises(InputError, match=r"a\.jpg does not exist; beside it is a\.heic, which condetr does not read"):
        open_split(folder)


def test_a_missing_image_is_refused_by_name(write_voc: Callable[..., Path]) -> None:
    folder = write_voc({"a": voc_xml(TWO["a"])}, {})
    (folder / "JPEGImages" / "a.jpg").unlink()

    with pytest.raises(InputError, match=r"JPEGImages/a\.jpg does not exist"):
        open_split(folder)
