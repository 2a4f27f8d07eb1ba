from pathlib import Path

import numpy as np
import pytest

from condetr.data.dataset import ImageRecord, Split
from condetr.labels import Category, LabelMap
from condetr.metrics.matching import confusion_matrix, image_f1, precision_recall
from condetr.shapes import Detections

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))
HERE, THERE, ELSEWHERE = (10.0, 10.0, 60.0, 60.0), (100.0, 100.0, 150.0, 150.0), (10.0, 100.0, 60.0, 150.0)
INSIDE_THERE = (110.0, 110.0, 130.0, 130.0)

Thing = tuple[tuple[float, ...], int]


def truth(*things: Thing, crowds: tuple[bool, ...] | None = None, image_id: int = 0) -> ImageRecord:
    boxes_xyxy = np.array([box for box, _ in things], np.float32).reshape(-1, 4)
    return ImageRecord(
        image_id=image_id,
        path=Path("none.jpg"),
        size_hw=(200, 200),
        boxes_xyxy=boxes_xyxy,
        labels=np.array([label for _, label in things], np.int64),
        is_crowd=np.array(crowds or [False] * len(things), bool),
        areas=np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1),
    )


def split_of(*records: ImageRecord) -> Split:
    return Split(name="val", records=records, label_map=LABELS)


def guess(*things: Thing, scores: tuple[float, ...]) -> Detections:
    return Detections(
        boxes_xyxy=np.array([box for box, _ in things], np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels=np.array([label for _, label in things], np.int64),
        names=tuple(LABELS.names[label] for _, label in things),
    )


def test_right_wrong_missed_and_invented_objects_have_their_places() -> None:
    split = split_of(truth((HERE, 0), (THERE, 1), (ELSEWHERE, 1)))
    found = guess((HERE, 0), (THERE, 0), ((0.0, 0.0, 5.0, 5.0), 1), scores=(0.9, 0.8, 0.7))

    matrix = confusion_matrix(split, {0: found}, threshold=0.5)

    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_detections_below_the_threshold_do_not_count() -> None:
    found = {0: guess((HERE, 0), scores=(0.4,))}

    assert confusion_matrix(split_of(truth((HERE, 0))), found, threshold=0.5).tolist() == [[0, 0, 1], [0] * 3, [0] * 3]


def test_images_without_detections_count_as_missed_objects() -> None:
    assert confusion_matrix(split_of(truth((HERE, 1))), {}, threshold=0.5)[1].tolist() == [0, 0, 1]


def test_detections_in_a_crowd_of_their_class_do_not_count() -> None:
    split = split_of(truth((HERE, 0), (THERE, 1), crowds=(False, True)))
    found = guess((HERE, 0), (INSIDE_THERE, 1), (INSIDE_THERE, 0), scores=(0.9, 0.9, 0.9))

    assert confusion_matrix(split, {0: found}, threshold=0.5).tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_an_object_in_front_of_a_crowd_is_still_found() -> None:
    split = split_of(truth((INSIDE_THERE, 1), (THERE, 1), crowds=(False, True)))

    matrix = confusion_matrix(split, {0: guess((INSIDE_THERE, 1), scores=(0.9,))}, threshold=0.5)

    assert matrix.sum() == matrix[1, 1] == 1


def test_curves_of_absent_classes_are_nan() -> None:
    curves = precision_recall(split_of(truth((HERE, 0))), {0: guess((HERE, 0), scores=(0.9,))})

    assert (curves.precision_50[0] == 1).all()
    assert (curves.precision_75[0] == 1).all()
    assert np.isnan(curves.precision_50[1]).all()


def test_f1_of_images_counts_hits_twice() -> None:
    split = split_of(truth((HERE, 0), (THERE, 0)), truth(image_id=1), truth((HERE, 1), image_id=2))
    found = {0: guess((HERE, 0), scores=(0.9,)), 2: guess((HERE, 1), scores=(0.9,))}

    assert image_f1(split, found, threshold=0.5) == pytest.approx({0: 2 / 3, 2: 1.0})
