"""AP on parts of the task, from predictions that are right on some of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.convergence.parts import measure
from condetr.boxes import xyxy_to_cxcywh
from condetr.data.dataset import ImageRecord, Split
from condetr.detectors.scores import Scores
from condetr.labels import Category, LabelMap
from condetr.shapes import Prediction

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))
SIZE = 128
SMALL, MEDIUM, LARGE = ([8 * place, 8, 8 * place + side, 8 + side] for place, side in ((0, 8), (2, 16), (5, 24)))


def scene(image_id: int, *boxes: list[int]) -> ImageRecord:
    boxes_xyxy = np.array(boxes, np.float32)
    return ImageRecord(
        image_id=image_id,
        path=Path("none.png"),
        size_hw=(SIZE, SIZE),
        boxes_xyxy=boxes_xyxy,
        labels=np.zeros(len(boxes), np.int64),
        is_crowd=np.zeros(len(boxes), bool),
        areas=np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1),
    )


FEW = scene(1, SMALL, MEDIUM, LARGE)
MANY = scene(2, *([16 * x, 16 * y, 16 * x + 8, 16 * y + 8] for x in range(3) for y in range(2)))
SCENES = Split(name="val", records=(FEW, MANY), label_map=LABELS)


def predict(split: Split, *, found: list[list[int]], label: int, scores: Scores) -> Prediction:
    """Return boxes found in every scene, surely of one class, and as many empty places that may be of class 0."""
    places = [*found, *([0, 120, 8, 128] for _ in found)]
    boxes = xyxy_to_cxcywh(torch.tensor(places, dtype=torch.float32) / SIZE)
    columns = len(LABELS) + (scores == "softmax")
    logits = torch.full((len(boxes), columns), -9.0)
    logits[: len(found), label] = 9.0
    logits[len(found) :, 0] = 0.0
    images = len(split.records)
    return Prediction(logits.expand(images, -1, -1), boxes.expand(images, -1, -1))


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_objects_under_wrong_names_count_only_without_their_names(scores: Scores) -> None:
    split = Split(name="val", records=(FEW,), label_map=LABELS)

    ap = measure([predict(split, found=[SMALL, MEDIUM, LARGE], label=1, scores=scores)], split, scores=scores)

    assert ap["everything"] < 0.6
    assert ap["objects without their names"] == pytest.approx(1)


def test_each_size_and_each_layer_counts_by_itself() -> None:
    split = Split(name="val", records=(FEW,), label_map=LABELS)
    first, last = (predict(split, found=found, label=0, scores="sigmoid") for found in ([LARGE], [SMALL, LARGE]))

    ap = measure([first, last], split, scores="sigmoid")

    assert [ap[f"sides {part}"] for part in ("below 12 pixels", "of 12 to 20", "from 20 on")] == pytest.approx(
        [1, 0, 1]
    )
    assert 0 < ap["decoder layer 1"] < ap["decoder layer 2"] == ap["everything"] < 1


def test_scenes_count_by_their_number_of_objects() -> None:
    ap = measure([predict(SCENES, found=[SMALL, MEDIUM, LARGE], label=0, scores="sigmoid")], SCENES, scores="sigmoid")

    assert ap["scenes of 1 to 3 objects"] == pytest.approx(1)
    assert ap["scenes of 6 to 8 objects"] < 0.2
