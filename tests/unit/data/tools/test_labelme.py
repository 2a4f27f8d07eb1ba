from pathlib import Path
from typing import Any

import pytest

from condetr.data.findings import Fault
from condetr.data.recognise import recognise
from condetr.data.sources import open_data
from condetr.errors import InputError
from tests.unit.data.conftest import write_image, write_text
from tests.unit.data.tools.conftest import read, write_images, write_json

Points = list[list[float]]


def shape(points: Points, kind: str | None = "rectangle", **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"label": "cat", "points": points, "group_id": None, "shape_type": kind, "flags": {}, **changes}


def page(*shapes: Any, image: str = "1.png", **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    size = {"imageHeight": 48, "imageWidth": 64}
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image,
        "imageData": None,
        **size,
        **changes,
    }


BOX = shape([[1, 2], [30, 40]])


def test_a_folder_of_json_beside_images_is_read(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "2.png")
    write_json(tmp_path / "1.json", page(BOX, shape([[3, 4], [9.5, 8]], label="dog")))
    write_json(tmp_path / "2.json", page(image="2.png"))

    data = read(tmp_path)

    assert data.images == {"1.png": [("cat", (1, 2, 30, 40)), ("dog", (3, 4, 9.5, 8))], "2.png": []}
    assert data.source.understood == "labelme: 2 JSON in the folder itself beside their images; no split"
    assert data.notes == ()


def test_classes_are_numbered_in_the_order_of_the_alphabet(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png")
    write_json(tmp_path / "1.json", page(shape([[3, 4], [9, 8]], label=" dog "), BOX))

    label_map = open_data(tmp_path, val_split="all").train.label_map

    assert label_map.categories == ((1, "cat"), (2, "dog"))
    assert label_map.ids_are_counted


@pytest.mark.parametrize(
    ("drawn", "corners"),
    [
        (shape([[30, 40], [1, 2]]), (1, 2, 30, 40)),
        (shape([[5, 1], [9, 6], [1, 8]], "polygon"), (1, 1, 9, 8)),
        (shape([[5, 1], [9, 6], [1, 8]], None), (1, 1, 9, 8)),
        (shape([[20, 20], [23, 24]], "circle"), (15, 15, 25, 25)),
        (shape([[5, 1], [9, 6], [5, 9], [1, 6]], "oriented_rectangle"), (1, 1, 9, 9)),
        (shape([[5, 1], [9, 6]], "mask", mask="..."), (5, 1, 9, 6)),
    ],
)
def test_every_shape_with_an_area_becomes_its_bounding_box(
    tmp_path: Path, drawn: dict[str, Any], corners: tuple[float, ...]
) -> None:
    write_images(tmp_path, "1.png")
    write_json(tmp_path / "1.json", page(drawn))

    assert read(tmp_path).images == {"1.png": [("cat", corners)]}


def test_points_lines_and_ignored_regions_are_counted_and_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png")
    ignored = shape([[1, 1], [9, 9]], label="__ignore__")
    write_json(tmp_path / "1.json", page(shape([[1, 2]], "point"), shape([[1, 2], [3, 4]], "line"), ignored, BOX))

    data = read(tmp_path)

    assert data.images == {"1.png": [("cat", (1, 2, 30, 40))]}
    assert data.places(Fault.NO_BOX) == ("1.json: shape 1", "1.json: shape 2")
    assert data.places(Fault.DONT_CARE) == ("1.json: shape 3",)


def test_outlines_of_one_group_and_class_are_one_object(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png")
    left, right = ([[x, 5], [x + 4, 5], [x, 20]] for x in (2.0, 30.0))
    parts = [
        shape(left, "polygon", group_id=1),
        shape(right, "polygon", group_id=1),
        shape(right, "polygon", group_id=2),
    ]
    write_json(tmp_path / "1.json", page(*parts, shape([[1, 2], [30, 40]], group_id=1)))

    data = read(tmp_path)

    assert data.images == {"1.png": [("cat", (2, 5, 34, 20)), ("cat", (30, 5, 34, 20)), ("cat", (1, 2, 30, 40))]}
    assert data.places(Fault.GROUPED) == ("1.json",)


@pytest.mark.parametrize("path", ["..\\images\\1.png", "../images/1.png", "C:\\Users\\me\\1.png", "/home/me/1.png"])
def test_paths_of_other_machines_do_not_matter(tmp_path: Path, path: str) -> None:
    write_images(tmp_path / "images", "1.png")
    write_json(tmp_path / "annotations" / "1.json", page(BOX, image=path))

    data = read(tmp_path)

    assert list(data.images) == ["images/1.png"]
    assert data.source.understood == "labelme: 1 JSON in annotations/, their images in images/; no split"


def test_where_no_image_has_the_name_of_the_file_the_name_in_it_counts(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "1.png", "2.png")
    for number in (1, 2):
        write_json(tmp_path / "annotations" / f"made of {number}.json", page(BOX, image=f"..\\images\\{number}.png"))

    data = read(tmp_path)

    assert data.images == {f"images/{number}.png": [("cat", (1, 2, 30, 40))] for number in (1, 2)}
    assert data.source.understood == "labelme: 2 JSON in annotations/, their images in images/; no split"


def test_a_renamed_pair_stays_a_pair(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "2.png")
    write_json(tmp_path / "1.json", page(BOX, image="2.png"))
    write_json(tmp_path / "2.json", page(image="3.png"))

    assert read(tmp_path).images == {"1.png": [("cat", (1, 2, 30, 40))], "2.png": []}


def test_of_images_that_differ_in_their_ending_the_one_that_is_named_counts(tmp_path: Path) -> None:
    write_images(tmp_path, "1.jpg", "1.png")
    write_json(tmp_path / "1.json", page(BOX))

    data = read(tmp_path)

    assert list(data.images) == ["1.png"]
    assert data.places(Fault.NAMESAKE) == ("1.jpg",)


def test_images_without_a_file_are_empty_unless_most_have_none(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "2.png")
    write_json(tmp_path / "1.json", page(BOX))
    few = read(tmp_path)
    write_images(tmp_path, "3.png", "4.png")
    most = read(tmp_path)

    assert (few.images["2.png"], few.places(Fault.UNANNOTATED)) == ([], ("2.png",))
    assert (list(most.images), len(most.places(Fault.NOT_ANNOTATED))) == (["1.png"], 3)


def test_folders_name_the_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_images(tmp_path / split, "1.png")
        write_json(tmp_path / split / "1.json", page(BOX))

    assert read(tmp_path).splits == {split: {f"{split}/1.png": [("cat", (1, 2, 30, 40))]} for split in ("train", "val")}


def test_a_size_that_is_missing_is_not_compared(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png", "2.png")
    write_json(tmp_path / "1.json", page(BOX, imageHeight=None, imageWidth=None))
    write_json(tmp_path / "2.json", page(BOX, imageHeight=64, imageWidth=48))

    findings = open_data(tmp_path).findings

    assert [finding.what for finding in findings if "size" in finding.what] == [
        "1 image of another size than the annotations say"
    ]


def test_a_missing_image_is_named_as_it_should_be_called(tmp_path: Path) -> None:
    write_images(tmp_path, "1.jpg")
    write_json(tmp_path / "1.json", page(BOX, image="1.jpg"))
    write_json(tmp_path / "2.json", page(BOX, image="2.jpeg"))

    with pytest.raises(InputError, match=r"2\.jpeg does not exist"):
        open_data(tmp_path)


@pytest.mark.parametrize(
    ("faulty", "sentence"),
    [
        (shape([[5, 2]]), "1.json: shape 2 has 1 of the points that a rectangle needs"),
        ({"points": [[1, 2], [3, 4]]}, "1.json: shape 2 has no label"),
        (shape([[1, 2], [3, float("nan")]]), "1.json: shape 2 has points.1.1 nan: input should be a finite number"),
        (shape([[1, 2], [3, 4]], "star"), "1.json: shape 2 has shape_type 'star', which condetr does not know"),
        (["cat"], "1.json: shape 2 is ['cat'], which is no entry"),
    ],
)
def test_a_faulty_shape_is_refused_by_itself(tmp_path: Path, faulty: object, sentence: str) -> None:
    write_images(tmp_path, "1.png")
    write_json(tmp_path / "1.json", page(BOX, faulty))

    data = read(tmp_path)

    assert data.images == {"1.png": [("cat", (1, 2, 30, 40))]}
    assert data.places(Fault.FAULTY_ENTRY) == (sentence,)
    with pytest.raises(InputError, match=r"1\.json: shape 2"):
        open_data(tmp_path)


@pytest.mark.parametrize("text", ['{"shapes": [', "[]", '{"shapes": 3, "imagePath": ""}', "[" * 100_000])
def test_a_faulty_file_is_refused_by_itself(tmp_path: Path, text: str) -> None:
    write_images(tmp_path, "1.png", "2.png", "3.png")
    for number in (1, 3):
        write_json(tmp_path / f"{number}.json", page(BOX, image=f"{number}.png"))
    write_text(tmp_path / "2.json", text)

    data = read(tmp_path)

    assert list(data.images) == ["1.png", "3.png"]
    assert len(data.places(Fault.FAULTY_FILE)) == 1
    assert str(tmp_path / "2.json") in data.places(Fault.FAULTY_FILE)[0]


def test_other_files_among_them_are_passed_over_and_said(tmp_path: Path) -> None:
    write_images(tmp_path, "1.png")
    write_json(tmp_path / "1.json", page(BOX))
    write_json(tmp_path / "package.json", {"name": "shapes", "dependencies": {}})

    data = read(tmp_path)

    assert list(data.images) == ["1.png"]
    assert data.places(Fault.NOT_READ) == ("package.json",)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    write_image(tmp_path / "1.png")
    file = write_json(tmp_path / "1.json", page(BOX))
    file.write_text(file.read_text(), encoding=encoding)

    assert read(tmp_path).images == {"1.png": [("cat", (1, 2, 30, 40))]}


def test_one_file_alone_is_no_data_set(tmp_path: Path) -> None:
    file = write_json(tmp_path / "1.json", page(BOX))

    with pytest.raises(InputError, match=r"1\.json describes one image, as labelme does: give its folder"):
        recognise(file)
