from pathlib import Path

import pytest

from condetr.data.findings import Fault
from condetr.data.sources import open_data
from condetr.errors import InputError
from tests.unit.data.conftest import write_text
from tests.unit.data.tools.conftest import read, write_images

BOX = '<box label="cat" source="manual" occluded="0" xtl="1.00" ytl="2.00" xbr="30.00" ybr="40.00" z_order="0"></box>'
CAT = ("cat", (1, 2, 30, 40))


def image(*shapes: str, name: str = "a.png", more: str = "") -> str:
    return f'<image id="0" name="{name}" {more} width="64" height="48">{"".join(shapes)}</image>'


def write(folder: Path, *elements: str, meta: str = "<task><name>t</name></task>", head: str = "") -> Path:
    text = f"<annotations><version>1.1</version><meta>{meta}</meta>{''.join(elements)}</annotations>"
    return write_text(folder / "annotations.xml", f'<?xml version="1.0" encoding="utf-8"?>{head}{text}')


@pytest.mark.parametrize("kind", ["task", "job", "project"])
def test_images_with_boxes_are_read(tmp_path: Path, kind: str) -> None:
    write_images(tmp_path / "images", "a.png", "b.png")
    file = write(tmp_path, image(BOX), image(name="b.png"), meta=f"<{kind}><labels></labels></{kind}>")

    data = read(tmp_path)

    assert data.images == {"images/a.png": [CAT], "images/b.png": []}
    assert data.source.understood == "CVAT: annotations.xml with images in images/; no split"
    assert data.notes == ()
    assert read(file).images == data.images


@pytest.mark.parametrize(
    ("shape", "corners"),
    [
        ('<box label="cat" xtl="20" ytl="10" xbr="30" ybr="30" rotation="90"/>', (15, 15, 35, 25)),
        ('<polygon label="cat" points="5,1;9.5,6;1,8"/>', (1, 1, 9.5, 8)),
        ('<ellipse label="cat" cx="20" cy="20" rx="6" ry="3"/>', (14, 17, 26, 23)),
        ('<ellipse label="cat" cx="20" cy="20" rx="6" ry="3" rotation="90"/>', (17, 14, 23, 26)),
        ('<mask label="cat" rle="1,2" left="3" top="4" width="5" height="6"/>', (3, 4, 8, 10)),
    ],
)
def test_every_shape_with_an_area_becomes_its_bounding_box(
    tmp_path: Path, shape: str, corners: tuple[float, ...]
) -> None:
    write_images(tmp_path, "a.png")
    write(tmp_path, image(shape))

    assert read(tmp_path).images == {"a.png": [("cat", corners)]}


def test_points_and_lines_are_counted_and_tags_are_not(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    lines = [f'<{kind} label="cat" points="1,2;3,4"/>' for kind in ("points", "polyline", "skeleton")]
    write(tmp_path, image(BOX, *lines, '<tag label="cat"/>'))

    data = read(tmp_path)

    assert (data.images, len(data.places(Fault.NO_BOX))) == ({"a.png": [CAT]}, 3)


def test_subsets_of_a_project_are_splits_with_folders_of_their_own(tmp_path: Path) -> None:
    for subset in ("Train", "Validation"):
        write_images(tmp_path / "images" / subset, "a.png")
    write(tmp_path, image(BOX, more='subset="Train"'), image(more="subset='Validation'"))

    data = read(tmp_path)

    assert data.splits == {"Train": {"images/Train/a.png": [CAT]}, "Validation": {"images/Validation/a.png": []}}
    assert data.notes == ()


def test_folders_in_names_are_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "train/a.png", "val/a &amp; b.png".replace("&amp;", "&"))
    write(tmp_path, image(BOX, name="train/a.png"), image(name="val/a &amp; b.png"))

    assert read(tmp_path).splits == {"train": {"images/train/a.png": [CAT]}, "val": {"images/val/a & b.png": []}}


def test_images_of_no_split_are_left_out_where_others_are_for_training(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "train/a.png", "other/a.png")
    write(tmp_path, image(BOX, name="train/a.png"), image(name="other/a.png"))

    data = read(tmp_path)

    assert list(data.splits) == ["train"]
    assert data.places(Fault.NOT_LISTED) == ("annotations.xml",)


def test_of_a_video_the_frames_with_the_object_inside_are_read(tmp_path: Path) -> None:
    write_images(tmp_path / "images", *(f"frame_00000{number}.PNG" for number in range(3)))
    frames = [
        f'<box frame="{number}" outside="{int(number == 2)}" keyframe="1" xtl="{number}" ytl="2" xbr="30" ybr="40"/>'
        for number in range(3)
    ]
    write(tmp_path, f'<track id="0" label="cat">{"".join(frames)}</track>')

    data = read(tmp_path)

    assert data.images == {
        "images/frame_000000.PNG": [("cat", (0, 2, 30, 40))],
        "images/frame_000001.PNG": [("cat", (1, 2, 30, 40))],
    }
    assert data.notes == ()


def test_a_declared_document_type_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    write(tmp_path, image(BOX), head='<!DOCTYPE annotations [<!ENTITY e SYSTEM "file:///etc/hostname">]>')

    with pytest.raises(InputError, match="declares a document type"):
        open_data(tmp_path)


@pytest.mark.parametrize(
    ("faulty", "sentence"),
    [
        ('<box label="cat" xtl="1" ytl="2" xbr="3"/>', "has no ybr"),
        ('<box label="" xtl="1" ytl="2" xbr="3" ybr="4"/>', "has label ''"),
        ('<box label="cat" xtl="inf" ytl="2" xbr="3" ybr="4"/>', "has xtl 'inf'"),
        ('<polygon label="cat" points="1,2;3"/>', "has points '1,2;3', expected numbers such as 1.5,2;3,4"),
        ('<polygon label="cat" points=""/>', "has points ''"),
    ],
)
def test_a_faulty_shape_is_refused_by_itself(tmp_path: Path, faulty: str, sentence: str) -> None:
    write_images(tmp_path, "a.png")
    write(tmp_path, image(BOX, faulty))

    data = read(tmp_path)

    assert data.images == {"a.png": [CAT]}
    assert data.places(Fault.FAULTY_ENTRY)[0].startswith(f"annotations.xml: a.png: shape 2 {sentence}")


def test_faulty_images_and_frames_are_refused_by_themselves(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    write(tmp_path, image(BOX), "<image/>", '<track label="cat"><box frame="x"/></track>')

    data = read(tmp_path)

    assert data.images == {"a.png": [CAT]}
    assert [place.partition(" has")[0] for place in data.places(Fault.FAULTY_ENTRY)] == [
        "annotations.xml: image 2",
        "annotations.xml: track 1",
    ]
