"""The score threshold that parts hits from false alarms best."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from condetr.data.dataset import ImageRecord, Split
from condetr.metrics.marks import mark
from condetr.shapes import Detections

SAME_OBJECT_IOU = 0.5
COST_OF_ROUNDING = 1e-3
"""Of F1."""


class BestThreshold(NamedTuple):
    """A score threshold, and the F1 of what scores at least that."""

    threshold: float
    f1: float


def best_threshold(split: Split, detections: Mapping[int, Detections]) -> BestThreshold | None:
    """Return the threshold with the highest F1 at IoU 0.5, of all objects and detections together.

    Every box counts under its best name alone, as `Predictor.predict` gives it. The threshold lies between the scores
    that it parts, with as few digits as cost no 0.001 of F1. Detections and objects are matched as in COCO's
    evaluation: best first, within a class, and what only matches a crowd region does not count. None if no object is
    found.
    """
    marked = [
        _mark(record, detections[record.image_id].one_name_each())
        for record in split.records
        if record.image_id in detections
    ]
    scores = np.concatenate([each.scores for each in marked] or [np.zeros(0, np.float32)])
    is_hit = np.concatenate([each.is_hit for each in marked] or [np.zeros(0, bool)])
    if not is_hit.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(is_hit[order])
    objects = sum(int((~record.is_crowd).sum()) for record in split.records)
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + objects)
    f1[:-1][scores[1:] == scores[:-1]] = 0  # no threshold parts equal scores
    best = int(np.argmax(f1))
    kept = float(scores[best])
    middle = (kept + (float(scores[best + 1]) if best + 1 < len(scores) else 0.0)) / 2
    for threshold in (*(round(middle, digits) for digits in range(2, 7)), kept):
        last = int(np.searchsorted(-scores, -np.float32(threshold), side="right")) - 1
        if last >= 0 and f1[last] > f1[best] - COST_OF_ROUNDING:
            break
    return BestThreshold(threshold, float(f1[last]))


class _Marked(NamedTuple):
    """The detections of an image that count, best first, and which of them are hits."""

    scores: Float[np.ndarray, " N"]
    is_hit: Bool[np.ndarray, " N"]


def _mark(record: ImageRecord, found: Detections) -> _Marked:
    is_hit, counts = (each[:, 0] for each in mark(record, found, ious=(SAME_OBJECT_IOU,)))
    return _Marked(found.scores[counts], is_hit[counts])
