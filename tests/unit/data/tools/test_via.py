import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from condetr.data.findings import Fault
from condetr.data.sources import open_data
from condetr.errors import InputError
from tests.unit.data.conftest import write_text
from tests.unit.data.tools.conftest import read, write_images, write_json

RECT = {"name": "rect", "x": 1, "y": 2, "width": 29, "height": 38}
BOX = ("cat", (1, 2, 30, 40))
HEADING = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"


def region(drawn: dict[str, Any] | None = None, **attributes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"shape_attributes": drawn or RECT, "region_attributes": attributes or {"class": "cat"}}


def content(**images: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        f"{name}.png99": {"filename": f"{name}.png", "size": 99, "regions": regions, "file_attributes": {}}
        for name, regions in images.items()
    }


def rows(heading: str, **images: Any) -> str:  # noqa: ANN401
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    for name, regions in images.items():
        if not regions:
            writer.writerow([f"{name}.png", 99, "{}", 0, 0, "{}", "{}"])
        for number, each in enumerate(regions):
            cells = (json.dumps(each["shape_attributes"]), json.dumps(each["region_attributes"]))
            writer.writerow([f"{name}.png", 99, "{}", len(regions), number, *cells])
    return f"{heading}\n{stream.getvalue()}"


@pytest.mark.parametrize(
    "written",
    [
        content(a=[region()], b=[]),
        {"_via_settings": {"core": {}}, "_via_img_metadata": content(a=[region()], b=[]), "_via_attributes": {}},
        content(a={"0": region()}, b={}),
    ],
    ids=["version 2", "project", "version 1"],
)
def test_each_kind_of_json_is_read(tmp_path: Path, written: dict[str, Any]) -> None:
    write_images(tmp_path / "images", "a.png", "b.png")
    write_json(tmp_path / "via.json", written)

    data = read(tmp_path)

    assert data.images == {"images/a.png": [BOX], "images/b.png": []}
    assert data.source.understood == "VIA: via.json with images in images/; no split"
    assert data.notes == ()
    assert read(tmp_path / "via.json").images == data.images


@pytest.mark.parametrize("heading", [HEADING, f"#{HEADING}"])
def test_csv_is_read(tmp_path: Path, heading: str) -> None:
    write_images(tmp_path, "a.png", "b.png")
    write_text(tmp_path / "via.csv", rows(heading, a=[region(), region({"name": "polyline"})], b=[]))

    data = read(tmp_path)

    assert data.images == {"a.png": [BOX], "b.png": []}
    assert data.places(Fault.NO_BOX) == ("via.csv: a.png: region 2",)
    assert read(tmp_path / "via.csv").images == data.images


@pytest.mark.parametrize(
    ("drawn", "corners"),
    [
        ({"name": "circle", "cx": 20, "cy": 21, "r": 5}, (15, 16, 25, 26)),
        ({"name": "ellipse", "cx": 20, "cy": 20, "rx": 6, "ry": 3}, (14, 17, 26, 23)),
        ({"name": "ellipse", "cx": 20, "cy": 20, "rx": 6, "ry": 3, "theta": 1.5707963}, (17, 14, 23, 26)),
        ({"name": "polygon", "all_points_x": [5, 9, 1], "all_points_y": [1, 6, 8]}, (1, 1, 9, 8)),
    ],
)
def test_other_shapes_become_their_bounding_boxes(
    tmp_path: Path, drawn: dict[str, Any], corners: tuple[float, ...]
) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "via.json", content(a=[region(drawn)]))

    data = read(tmp_path)

    assert data.images == {"a.png": [("cat", corners)]}
    assert data.places(Fault.OUTLINE) == ("via.json: a.png: region 1",)


@pytest.mark.parametrize(
    "attributes",
    [
        {"species": "cat"},
        {"colour": "red", "Name": "cat"},
        {"species": "cat", "colour": ""},
        {"kind": {"dog": False, "cat": True}},
        {"name": "Tom", "class": "cat"},
    ],
)
def test_the_class_is_the_only_attribute_or_the_one_that_is_called_so(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "via.json", content(a=[region(**attributes)]))

    assert read(tmp_path).images == {"a.png": [BOX]}


def test_the_attribute_that_was_chosen_is_said(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "via.json", content(a=[region(colour="red", name="cat")]))

    assert read(tmp_path).places(Fault.CHOSEN_ATTRIBUTE) == ("via.json: name of colour, name",)


def test_attributes_of_which_any_may_be_the_class_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "via.json", content(a=[region(colour="red", species="cat")]))

    with pytest.raises(InputError, match="is the class: 'colour', 'species'; call it `class`"):
        open_data(tmp_path)


def test_without_any_attribute_all_regions_are_of_one_class(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    regions = [{"shape_attributes": RECT, "region_attributes": {}}]
    write_json(tmp_path / "via.json", content(a=regions))

    data = read(tmp_path)

    assert data.images == {"a.png": [("object", BOX[1])]}
    assert data.places(Fault.NO_CLASSES) == ("via.json",)


def test_of_several_ticked_boxes_the_first_counts(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "via.json", content(a=[region(kind={"cat": True, "dog": True})]))

    data = read(tmp_path)

    assert (data.images, len(data.places(Fault.SEVERAL_LABELS))) == ({"a.png": [BOX]}, 1)


def test_folders_name_the_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_images(tmp_path / split, "a.png")
        write_json(tmp_path / split / "via_region_data.json", content(a=[region()]))

    assert read(tmp_path).splits == {split: {f"{split}/a.png": [BOX]} for split in ("train", "val")}


def test_an_older_export_beside_a_newer_one_adds_no_box_twice(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    dog = region({**RECT, "x": 9}, **{"class": "dog"})
    write_json(tmp_path / "new.json", content(a=[region(), dog]))
    write_json(tmp_path / "old.json", content(a=[region()]))

    data = read(tmp_path)

    assert data.images == {"a.png": [BOX, ("dog", (9, 2, 38, 40))]}
    assert data.places(Fault.REPEATED_IMAGE) == ("a.png",)


@pytest.mark.parametrize(
    ("faulty", "sentence"),
    [
        ({"shape_attributes": RECT, "region_attributes": {}}, "has no class"),
        (region({"name": "rect", "x": 1}), "has no y"),
        (region({**RECT, "x": "1"}), "has x '1': input should be a valid number"),
        (region({"name": "blob"}), "has the shape 'blob', which condetr does not know"),
        (region({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2, 3]}), "has points with an x or y"),
        (7, "is 7, which is no entry"),
    ],
)
def test_a_faulty_region_is_refused_by_itself(tmp_path: Path, faulty: object, sentence: str) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "via.json", content(a=[region(), faulty]))

    data = read(tmp_path)

    assert data.images == {"a.png": [BOX]}
    assert data.places(Fault.FAULTY_ENTRY)[0].startswith(f"via.json: a.png: region 2 {sentence}")


def test_faulty_entries_and_rows_are_refused_by_themselves(tmp_path: Path) -> None:
    write_images(tmp_path / "json", "a.png")
    write_json(tmp_path / "json" / "via.json", content(a=[region()]) | {"b": {"filename": "b.png", "regions": 3}})
    write_images(tmp_path / "csv", "a.png")
    write_text(tmp_path / "csv" / "via.csv", rows(HEADING, a=[region()]) + 'a.png,9,"{}",1,0,"[1","{}"\n')

    entry, row = (read(tmp_path / name) for name in ("json", "csv"))

    assert entry.images == row.images == {"a.png": [BOX]}
    assert entry.places(Fault.FAULTY_ENTRY)[0].startswith("via.json: entry 'b' has regions")
    assert row.places(Fault.FAULTY_ENTRY) == ("via.csv: row 3 has '[1' where a JSON object is expected",)
