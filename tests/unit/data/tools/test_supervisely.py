from pathlib import Path
from typing import Any

from condetr.data.findings import Fault
from tests.unit.data.conftest import write_text
from tests.unit.data.tools.conftest import read, write_images, write_json


def thing(points: list[list[float]], kind: str = "rectangle", **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "classTitle": "cat",
        "geometryType": kind,
        "points": {"exterior": points, "interior": []},
        "tags": [],
        **changes,
    }


def page(*things: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"description": "", "tags": [], "size": {"height": 48, "width": 64}, "objects": list(things)}


def write(folder: Path, **pages: dict[str, Any]) -> None:
    for name, content in pages.items():
        write_images(folder / "img", f"{name}.png")
        write_json(folder / "ann" / f"{name}.png.json", content)


BOX = thing([[1, 2], [30, 40]])


def test_a_project_with_its_data_sets_is_read(tmp_path: Path) -> None:
    write(tmp_path / "train", a=page(BOX), b=page())
    write(tmp_path / "val", a=page(thing([[30, 40], [1, 2]], classTitle="dog")))
    write_json(tmp_path / "meta.json", {"classes": [{"title": "cat"}], "tags": [], "projectType": "images"})

    data = read(tmp_path)

    assert data.splits == {
        "train": {"train/img/a.png": [("cat", (1, 2, 30, 40))], "train/img/b.png": []},
        "val": {"val/img/a.png": [("dog", (1, 2, 30, 40))]},
    }
    assert data.notes == ()
    assert data.source.understood.startswith("Supervisely: 2 JSON in train/ann/, their images in train/img/")


def test_polygons_become_boxes_and_bitmaps_and_points_are_counted(tmp_path: Path) -> None:
    bitmap = {"classTitle": "cat", "geometryType": "bitmap", "bitmap": {"data": "eJw", "origin": [3, 4]}}
    write(tmp_path, a=page(thing([[5, 1], [9, 6], [1, 8]], "polygon"), bitmap, thing([[1, 2]], "point")))

    data = read(tmp_path)

    assert data.images == {"img/a.png": [("cat", (1, 1, 9, 8))]}
    assert data.places(Fault.UNREAD_MASK) == ("ann/a.png.json: object 2",)
    assert data.places(Fault.NO_BOX) == ("ann/a.png.json: object 3",)


def test_faulty_objects_and_files_are_refused_by_themselves(tmp_path: Path) -> None:
    write(tmp_path, a=page(BOX, thing([[1, 2], [3, "x"]]), {"geometryType": "rectangle"}), b=page())  # type: ignore[list-item]
    write_text(tmp_path / "ann" / "b.png.json", '{"size": {')

    data = read(tmp_path)

    assert data.images == {"img/a.png": [("cat", (1, 2, 30, 40))]}
    assert data.places(Fault.FAULTY_ENTRY) == (
        "ann/a.png.json: object 2 has exterior.1.1 'x': input should be a valid number",
        "ann/a.png.json: object 3 has no classTitle",
    )
    assert len(data.places(Fault.FAULTY_FILE)) == 1
