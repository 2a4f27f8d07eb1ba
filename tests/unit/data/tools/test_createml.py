from pathlib import Path
from typing import Any

import pytest

from condetr.data.findings import Fault
from tests.unit.data.tools.conftest import read, write_images, write_json

BOX = ("cat", (1, 2, 30, 40))


def marked(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"label": "cat", "coordinates": {"x": 15.5, "y": 21, "width": 29, "height": 38, **changes}}


@pytest.mark.parametrize(("image", "annotations"), [("image", "annotations"), ("imagefilename", "annotation")])
def test_coordinates_are_centre_and_size(tmp_path: Path, image: str, annotations: str) -> None:
    write_images(tmp_path, "a.png", "b.png")
    content = [{image: "a.png", annotations: [marked()]}, {image: "b.png", annotations: []}]
    write_json(tmp_path / "_annotations.createml.json", content)

    data = read(tmp_path)

    assert data.images == {"a.png": [BOX], "b.png": []}
    assert data.source.understood == "CreateML: _annotations.createml.json with images in the folder itself; no split"
    assert data.notes == ()
    assert read(tmp_path / "_annotations.createml.json").images == data.images


def test_folders_name_the_splits(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_images(tmp_path / split, "a.png")
        write_json(tmp_path / split / "_annotations.createml.json", [{"image": "a.png", "annotations": [marked()]}])

    assert read(tmp_path).splits == {split: {f"{split}/a.png": [BOX]} for split in ("train", "valid")}


def test_an_image_that_is_listed_twice_is_read_once(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "all.json", [{"image": "a.png", "annotations": [marked()]}] * 2)

    data = read(tmp_path)

    assert (data.images, data.places(Fault.REPEATED_IMAGE)) == ({"a.png": [BOX]}, ("a.png",))


@pytest.mark.parametrize(
    ("faulty", "sentence"),
    [
        (
            {"image": "a.png", "annotations": [{"label": "cat", "coordinates": {"x": 1}}]},
            "a.png: annotation 1 has no y",
        ),
        ({"image": "a.png", "annotations": [marked(x=None)]}, "a.png: annotation 1 has coordinates.x None"),
        ({"image": "a.png", "annotations": {}}, "image 2 has annotations {}"),
        ({"annotations": []}, "image 2 has no image"),
        (None, "image 2 is None, which is no entry"),
    ],
)
def test_faulty_entries_are_refused_by_themselves(tmp_path: Path, faulty: object, sentence: str) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "all.json", [{"image": "a.png", "annotations": [marked()]}, faulty])

    data = read(tmp_path)

    assert data.images == {"a.png": [BOX]}
    assert data.places(Fault.FAULTY_ENTRY)[0].startswith(f"all.json: {sentence}")
