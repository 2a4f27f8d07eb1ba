import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from condetr.inference.rows import FORMATS, Format, ImageRow, encoded
from condetr.labels import Category, LabelMap
from condetr.shapes import NOTHING, Detections

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))
FOUND = Detections(
    boxes_xyxy=np.array([[1, 2, 11.128, 22], [0, 0, 5, 5]], np.float32),
    scores=np.array([0.9, 0.123456], np.float32),
    labels=np.array([1, 0]),
    names=("nut", "bolt"),
)
ROWS = [
    ImageRow(4, Path("a.jpg"), (30, 40), FOUND),
    ImageRow(6, "s3://b/\udce4.jpg", (10, 20), NOTHING),
    ImageRow(7, Path("c.jpg"), (30, 40), FOUND),
]


def test_lines_of_json_hold_every_image_also_one_without_objects() -> None:
    lines = [json.loads(line) for line in encoded(ROWS, "jsonl", label_map=LABELS, limit=5).splitlines()]

    assert [line["image"] for line in lines] == ["a.jpg", "s3://b/\udce4.jpg", "c.jpg"]
    assert [len(line["detections"]) for line in lines] == [2, 0, 2]
    assert lines[0]["detections"][0] == {
        "name": "nut",
        "category_id": 7,
        "score": 0.9,
        "box_xyxy": [1.0, 2.0, 11.13, 22.0],
    }
    assert (lines[1]["width"], lines[1]["height"]) == (20, 10)


def test_ids_of_coco_follow_from_the_place_and_are_unique() -> None:
    content = json.loads(encoded(ROWS, "coco", label_map=LABELS, limit=5))

    assert [image["id"] for image in content["images"]] == [5, 7, 8]
    assert [(row["id"], row["image_id"], row["category_id"]) for row in content["annotations"]] == [
        (21, 5, 7),
        (22, 5, 3),
        (36, 8, 7),
        (37, 8, 3),
    ]


def test_parquet_holds_the_same_as_lines_of_json() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")

    table = parquet.read_table(io.BytesIO(encoded(ROWS, "parquet", label_map=LABELS, limit=5))).to_pylist()

    lines = [json.loads(line) for line in encoded(ROWS, "jsonl", label_map=LABELS, limit=5).splitlines()]
    for row, line in zip(table, lines, strict=True):
        assert (row["width"], row["height"]) == (line["width"], line["height"])
        assert row["names"] == [each["name"] for each in line["detections"]]
        assert row["category_ids"] == [each["category_id"] for each in line["detections"]]
        assert row["scores"] == pytest.approx([each["score"] for each in line["detections"]])
        for box, each in zip(row["boxes_xyxy"], line["detections"], strict=True):
            assert box == pytest.approx(each["box_xyxy"])
    assert table[0]["image"] == "a.jpg"


@pytest.mark.parametrize("kind", FORMATS)
def test_no_images_at_all_are_a_file_too(kind: Format) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")

    assert encoded([ROWS[1]._replace(detections=replace(NOTHING))], kind, label_map=LABELS, limit=5)
    assert encoded([], kind, label_map=LABELS, limit=5) == encoded([], kind, label_map=LABELS, limit=5)
