from pathlib import Path
from typing import Any

import pytest

from condetr.data.findings import Fault
from tests.unit.data.conftest import SIZE_WH
from tests.unit.data.tools.conftest import read, write_images, write_json

BOX = ("cat", (16, 12, 48, 36))
SIZE = {"original_width": SIZE_WH[0], "original_height": SIZE_WH[1], "image_rotation": 0}
RECTANGLE: dict[str, Any] = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0}


def result(kind: str = "rectanglelabels", **value: Any) -> dict[str, Any]:  # noqa: ANN401
    labels = {} if not kind.endswith("labels") else {kind: ["cat"]}
    return {**SIZE, "id": "r1", "type": kind, "value": {**labels, **(value or RECTANGLE)}}


def annotation(*results: Any, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"id": 1, "was_cancelled": False, "ground_truth": False, "result": list(results), **changes}


def task(*annotations: Any, image: str = "/data/upload/3/0a1b2c3d-a.png") -> dict[str, Any]:  # noqa: ANN401
    return {"id": 1, "annotations": list(annotations), "predictions": [], "data": {"image": image}}


def one(folder: Path, *results: Any) -> Path:  # noqa: ANN401
    write_images(folder, "a.png")
    write_json(folder / "export.json", [task(annotation(result(), *results))])
    return folder


@pytest.mark.parametrize(
    ("reference", "image"),
    [
        ("/data/upload/3/0a1b2c3d-a.png", "images/a.png"),
        ("/data/upload/3/0a1b2c3d-a.png", "images/0a1b2c3d-a.png"),
        ("/data/upload/3/0a1b2c3d-my_cat_1.png", "images/my cat (1).png"),
        ("/data/local-files/?d=images/a%20b.png", "images/a b.png"),
        ("/data/local-files/?d=other%5Cimages%5Ca.png", "images/a.png"),
        ("https://host/bucket/a%C3%A9.png?signature=1", "images/a\u00e9.png"),
        ("s3://bucket/images/a.png", "images/a.png"),
    ],
)
def test_images_are_found_by_what_references_mean(tmp_path: Path, reference: str, image: str) -> None:
    write_images(tmp_path, image)
    write_json(tmp_path / "export.json", [task(annotation(result()), image=reference)])

    data = read(tmp_path)

    assert data.images == {image: [BOX]}
    assert read(tmp_path / "export.json").images == data.images


def test_uploads_are_found_without_a_word(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.png", "b.png")
    tasks = [task(annotation(result())), task(annotation(), image="/data/upload/3/ffffffff-b.png")]
    write_json(tmp_path / "export.json", tasks)

    data = read(tmp_path)

    assert data.images == {"images/a.png": [BOX], "images/b.png": []}
    assert data.source.understood == "Label Studio: export.json with images in images/; no split"
    assert data.notes == ()


@pytest.mark.parametrize(
    ("drawn", "corners"),
    [
        (result("polygonlabels", points=[[50, 25], [75, 50], [25, 75]]), (16, 12, 48, 36)),
        (result("ellipselabels", x=50, y=50, radiusX=25, radiusY=25), (16, 12, 48, 36)),
        (result("ellipselabels", x=50, y=50, radiusX=25, radiusY=25, rotation=90), (20, 8, 44, 40)),
        # A quarter turn clockwise about the top left corner takes the box to the left of it.
        (result(x=50, y=25, width=25, height=50, rotation=90), (8, 12, 32, 28)),
    ],
)
def test_other_shapes_become_their_bounding_boxes(
    tmp_path: Path, drawn: dict[str, Any], corners: tuple[float, ...]
) -> None:
    data = read(one(tmp_path, drawn))

    assert data.images == {"a.png": [BOX, ("cat", corners)]}
    assert data.places(Fault.OUTLINE) == ("export.json: /data/upload/3/0a1b2c3d-a.png: result 2",)


def test_a_region_and_its_label_may_be_two_results(tmp_path: Path) -> None:
    label = {"id": "r1", "type": "labels", "value": {"labels": ["cat"]}}
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "export.json", [task(annotation(result("rectangle", **RECTANGLE), label))])

    assert read(tmp_path).images == {"a.png": [BOX]}


def test_brushes_and_points_are_counted_and_choices_are_not(tmp_path: Path) -> None:
    choice = {"id": "c", "type": "choices", "value": {"choices": ["day"]}}
    data = read(one(tmp_path, result("brushlabels", rle=[1]), result("keypointlabels", x=1, y=2), choice))

    assert data.images == {"a.png": [BOX]}
    assert (len(data.places(Fault.UNREAD_MASK)), len(data.places(Fault.NO_BOX))) == (1, 1)


def test_of_several_annotators_the_first_counts_unless_one_is_called_true(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.png")
    dog = annotation(result("polygonlabels", points=[[0, 0], [50, 50]], polygonlabels=["dog"]))
    true = dict(dog, ground_truth=True, updated_at="2024-01-01"), annotation(ground_truth=True, updated_at="2023-12-31")
    tasks = [
        task(annotation(was_cancelled=True), annotation(result()), dog),
        task(annotation(result()), *true, image="/data/upload/3/0a1b2c3d-b.png"),
    ]
    write_json(tmp_path / "export.json", tasks)

    data = read(tmp_path)

    assert data.images == {"a.png": [BOX], "b.png": [("dog", (0, 0, 32, 24))]}
    assert len(data.places(Fault.OTHER_ANNOTATOR)) == 2


@pytest.mark.parametrize("annotations", [[], [annotation(result(), was_cancelled=True)]])
def test_what_nobody_annotated_is_not_taken_as_empty(tmp_path: Path, annotations: list[dict[str, Any]]) -> None:
    write_images(tmp_path, "a.png", "b.png")
    todo = task(*annotations, image="/data/upload/3/0a1b2c3d-b.png")
    write_json(tmp_path / "export.json", [task(annotation(result())), todo])

    data = read(tmp_path)

    assert (list(data.images), len(data.places(Fault.NOT_DONE))) == (["a.png"], 1)


def test_the_short_export_is_read_with_a_row_for_each_annotator(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.png")
    row = {"image": "/data/upload/3/0a1b2c3d-a.png", "id": 1, "annotator": 1, "annotation_id": 1, "lead_time": 1.0}
    marked = {**RECTANGLE, "rectanglelabels": ["cat"], **SIZE}
    content = [
        {**row, "label": [marked]},
        {**row, "annotator": 2, "label": [{**marked, "x": 1}]},
        {**row, "image": "b.png"},
    ]
    write_json(tmp_path / "export.json", content)

    data = read(tmp_path)

    assert data.images == {"a.png": [BOX], "b.png": []}
    assert len(data.places(Fault.OTHER_ANNOTATOR)) == 1


@pytest.mark.parametrize(
    ("faulty", "sentence"),
    [
        (result(**RECTANGLE, rectanglelabels=[]), "has no label"),
        ({**result(), "original_width": None}, "has original_width None"),
        ({**result(), "image_rotation": 90}, "is drawn on the image turned by 90 degrees"),
        (result(x=1), "has no y"),
        ({**result(), "value": 7}, "has value 7"),
        ("cat", "is 'cat', which is no entry"),
    ],
)
def test_a_faulty_result_is_refused_by_itself(tmp_path: Path, faulty: object, sentence: str) -> None:
    data = read(one(tmp_path, faulty))

    assert data.images == {"a.png": [BOX]}
    (place,) = data.places(Fault.FAULTY_ENTRY)
    assert place.startswith(f"export.json: /data/upload/3/0a1b2c3d-a.png: result 2 {sentence}")


@pytest.mark.parametrize(
    ("faulty", "sentence"),
    [
        (7, "is no object with an image"),
        ({"data": {"text": "a cat"}, "annotations": []}, "names no image"),
        (task(annotation(), image="data:image/png;base64,AAAA"), "holds the image itself, not its name"),
        (task({"result": 3}), "has result 3"),
    ],
)
def test_a_faulty_task_is_refused_by_itself(tmp_path: Path, faulty: object, sentence: str) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "export.json", [task(annotation(result())), faulty])

    data = read(tmp_path)

    assert data.images == {"a.png": [BOX]}
    assert data.places(Fault.FAULTY_ENTRY)[0].startswith(f"export.json: task 2 {sentence}")
