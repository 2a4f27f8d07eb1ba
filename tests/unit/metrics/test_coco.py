import json
import math
from pathlib import Path

import numpy as np
import pytest

from condetr.data.dataset import ImageRecord, Split
from condetr.errors import InputError
from condetr.labels import Category, LabelMap
from condetr.metrics.coco import evaluate_coco
from condetr.shapes import Detections

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))
HERE = (10.0, 10.0, 60.0, 60.0)
THERE = (100.0, 100.0, 150.0, 150.0)

Box = tuple[float, ...]


def truth(*boxes: Box, image_id: int = 0, label: int = 0, is_crowd: bool = False) -> ImageRecord:
    boxes_xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return ImageRecord(
        image_id=image_id,
        path=Path("none.jpg"),
        size_hw=(200, 200),
        boxes_xyxy=boxes_xyxy,
        labels=np.full(len(boxes), label),
        is_crowd=np.full(len(boxes), is_crowd),
        areas=np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1),
    )


def split_of(*records: ImageRecord) -> Split:
    return Split(name="val", records=records, label_map=LABELS)


def guess(*boxes: Box, scores: tuple[float, ...], label: int = 0) -> Detections:
    return Detections(
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels=np.full(len(boxes), label),
        names=(LABELS.names[label],) * len(boxes),
    )


def test_finding_everything_is_ap_1() -> None:
    results = evaluate_coco(split_of(truth(HERE, THERE)), {0: guess(HERE, THERE, scores=(0.9, 0.8))})

    assert (results.AP, results.AP50, results.AP_medium, results.AR_100) == (1.0, 1.0, 1.0, 1.0)


def test_no_detections_at_all_are_ap_0() -> None:
    results = evaluate_coco(split_of(truth(HERE), truth(THERE, image_id=1)), {})

    assert (results.AP, results.AR_100) == (0.0, 0.0)


def test_detections_in_an_image_without_objects_cost_precision() -> None:
    split = split_of(truth(HERE), truth(image_id=1))

    results = evaluate_coco(split, {0: guess(HERE, scores=(0.5,)), 1: guess(HERE, scores=(0.9,))})

    assert pytest.approx(0.5) == results.AP50


def test_an_image_without_detections_counts() -> None:
    split = split_of(truth(HERE), truth(HERE, image_id=1))

    assert pytest.approx(0.5) == evaluate_coco(split, {0: guess(HERE, scores=(0.9,))}).AR_100


def test_detections_inside_a_crowd_cost_nothing() -> None:
    split = split_of(truth(HERE), truth(THERE, image_id=1, is_crowd=True))

    results = evaluate_coco(split, {0: guess(HERE, scores=(0.5,)), 1: guess(THERE, scores=(0.9,))})

    assert results.AP == 1.0
    assert results.per_class[0].boxes == 1


def test_a_class_that_does_not_occur_is_undefined_and_leaves_the_mean_alone() -> None:
    results = evaluate_coco(split_of(truth(HERE)), {0: guess(HERE, scores=(0.9,))})

    bolt, nut = results.per_class
    assert (results.AP, bolt.AP, bolt.images, bolt.boxes) == (1.0, 1.0, 1, 1)
    assert (math.isnan(nut.AP), nut.images, nut.dataset_id) == (True, 0, 7)


def test_undefined_figures_are_null_in_json() -> None:
    plain = evaluate_coco(split_of(truth(HERE)), {}).to_dict()

    assert json.loads(json.dumps(plain, allow_nan=False))["AP_large"] is None
    assert plain["per_class"][1]["AP"] is None
    assert plain["AP"] == 0.0


def test_a_split_without_images_has_no_figures() -> None:
    assert math.isnan(evaluate_coco(split_of(), {}).AP)


def test_detections_of_an_unknown_image_are_refused() -> None:
    with pytest.raises(InputError, match=r"image id 5\b.*the split that they were made on"):
        evaluate_coco(split_of(truth(HERE)), {5: guess(HERE, scores=(0.9,))})


def test_evaluation_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    evaluate_coco(split_of(truth(HERE)), {0: guess(HERE, scores=(0.9,))})

    assert capfd.readouterr() == ("", "")
