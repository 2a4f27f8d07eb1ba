import contextlib
import io
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from condetr.data.dataset import ImageRecord, Split
from condetr.labels import Category, LabelMap
from condetr.metrics.coco import CocoResults, evaluate_coco
from condetr.metrics.matches import find_matches
from condetr.metrics.matching import confusion_matrix, precision_recall
from condetr.shapes import Detections

LABELS = LabelMap((Category(7, "bolt"), Category(3, "nut"), Category(90, "washer")))
FIGURES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100")

Found = dict[int, Detections]


class Thing(NamedTuple):
    """A box of ground truth or a detection, as plain numbers."""

    box: tuple[int, int, int, int]
    label: int
    is_crowd: bool
    score: float


Case = dict[int, tuple[list[Thing], list[Thing]]]
"""Ground truth and detections by image id."""


def things(*, labels: int, at_most: int) -> SearchStrategy[list[Thing]]:
    """Draw boxes on a coarse grid, small to large by COCO's areas: equal boxes, overlaps and scores are common."""
    corners = st.tuples(*[st.integers(0, 4)] * 2, *[st.integers(1, 6)] * 2)
    box = corners.map(lambda b: (b[0] * 25, b[1] * 25, b[0] * 25 + b[2] * 20, b[1] * 25 + b[3] * 20))
    crowd = st.sampled_from([False, False, True])
    return st.lists(
        st.builds(Thing, box, st.integers(0, labels - 1), crowd, st.integers(1, 9).map(float)), max_size=at_most
    )


cases = st.dictionaries(
    st.integers(0, 2**40), st.tuples(things(labels=2, at_most=4), things(labels=3, at_most=6)), min_size=1, max_size=4
)


def split_of(case: Case) -> Split:
    records = tuple(truth(image_id, objects) for image_id, (objects, _) in case.items())
    return Split(name="val", records=records, label_map=LABELS)


def truth(image_id: int, objects: list[Thing]) -> ImageRecord:
    boxes_xyxy = np.array([thing.box for thing in objects], np.float32).reshape(-1, 4)
    return ImageRecord(
        image_id=image_id,
        path=Path("none.jpg"),
        size_hw=(240, 240),
        boxes_xyxy=boxes_xyxy,
        labels=np.array([thing.label for thing in objects], np.int64),
        is_crowd=np.array([thing.is_crowd for thing in objects], bool),
        areas=np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1),
    )


def found_in(case: Case, *, full_score: float = 10) -> Found:
    """Return the detections; images with none are left out."""
    return {image_id: guess(things, full_score=full_score) for image_id, (_, things) in case.items() if things}


def guess(things: list[Thing], *, full_score: float) -> Detections:
    return Detections(
        boxes_xyxy=np.array([thing.box for thing in things], np.float32).reshape(-1, 4),
        scores=np.array([thing.score / full_score for thing in things], np.float32),
        labels=np.array([thing.label for thing in things], np.int64),
        names=tuple(LABELS.names[thing.label] for thing in things),
    )


def pycocotools_figures(split: Split, found: Found) -> list[float]:
    header = {
        "images": [{"id": record.image_id} for record in split.records],
        "categories": [{"id": dataset_id} for dataset_id in LABELS.dataset_ids],
    }
    truth = [
        row(record.image_id, label, box, area=float(area), iscrowd=int(crowd))
        for record in split.records
        for label, box, area, crowd in zip(record.labels, record.boxes_xyxy, record.areas, record.is_crowd, strict=True)
    ]
    guess = [
        row(image_id, label, box, area=float(np.prod(box[2:] - box[:2])), iscrowd=0, score=float(score))
        for image_id, each in found.items()
        for label, box, score in zip(each.labels, each.boxes_xyxy, each.scores, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(coco({**header, "annotations": truth}), coco({**header, "annotations": guess}), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) for value in evaluator.stats[:9]]


def row(image_id: int, label: int, box: np.ndarray, **rest: float) -> dict[str, Any]:
    x, y, x2, y2 = box.tolist()
    return {"image_id": image_id, "category_id": LABELS.dataset_ids[label], "bbox": [x, y, x2 - x, y2 - y], **rest}


def coco(content: dict[str, Any]) -> COCO:
    for number, annotation in enumerate(content["annotations"], start=1):
        annotation["id"] = number
    made = COCO()
    made.dataset = content
    made.createIndex()
    return made


def figures(results: CocoResults) -> list[float]:
    return [getattr(results, name) for name in FIGURES]


@given(cases)
@settings(max_examples=60)
def test_figures_agree_with_pycocotools(case: Case) -> None:
    split, found = split_of(case), found_in(case)

    expected = [np.nan if value == -1 else value for value in pycocotools_figures(split, found)]

    assert figures(evaluate_coco(split, found)) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@given(cases)
@settings(max_examples=20)
def test_only_the_order_of_scores_matters(case: Case) -> None:
    split, found, halved = split_of(case), found_in(case), found_in(case, full_score=20)

    assert figures(evaluate_coco(split, halved)) == pytest.approx(figures(evaluate_coco(split, found)), nan_ok=True)


@given(cases)
@settings(max_examples=20)
def test_the_mean_of_a_precision_curve_is_the_ap50_of_its_class(case: Case) -> None:
    split, found = split_of(case), found_in(case)

    areas = precision_recall(split, found).precision_50.mean(axis=1)

    assert areas == pytest.approx([row.AP50 for row in evaluate_coco(split, found).per_class], nan_ok=True)


@given(cases)
@settings(max_examples=20)
def test_every_object_stands_once_in_the_confusion_matrix(case: Case) -> None:
    split, found = split_of(case), found_in(case)

    rows = confusion_matrix(split, found, threshold=0.5).sum(axis=1)

    assert rows[:-1].tolist() == [row.boxes for row in evaluate_coco(split, found).per_class]


@given(cases)
def test_ap_from_matches_is_that_of_the_evaluation(case: Case) -> None:
    split, found = split_of(case), found_in(case)
    np.testing.assert_allclose(find_matches(split, found).ap(), evaluate_coco(split, found).AP, atol=1e-12)


@given(cases, st.lists(st.integers(0, 3), min_size=4, max_size=4), st.randoms(use_true_random=False))
def test_an_image_that_was_drawn_twice_counts_as_two_images(
    case: Case, times: list[int], chance: random.Random
) -> None:
    # Between images, equal scores are ordered by image id, which a copy does not share.
    scores = iter(chance.sample(range(1000), 100))
    case = {
        image_id: (objects, [thing._replace(score=float(next(scores))) for thing in things])
        for image_id, (objects, things) in case.items()
    }
    drawn = dict(enumerate(case[image_id] for image_id, n in zip(sorted(case), times, strict=False) for _ in range(n)))
    sampled = find_matches(split_of(case), found_in(case)).ap(np.array(times[: len(case)]))
    np.testing.assert_allclose(sampled, evaluate_coco(split_of(drawn), found_in(drawn)).AP, atol=1e-12)
