"""Which detections of an image are hits, as COCO's evaluation matches them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from faster_coco_eval.core.mask import iou as coco_overlap
from jaxtyping import Bool

from condetr.boxes import to_xywh
from condetr.data.dataset import ImageRecord
from condetr.shapes import Detections


class Marks(NamedTuple):
    """What is said of each detection at each IoU."""

    is_hit: Bool[np.ndarray, "N IoU"]
    counts: Bool[np.ndarray, "N IoU"]
    """False for what only matches a crowd region."""


def mark(record: ImageRecord, found: Detections, *, ious: Sequence[float]) -> Marks:
    """Match detections, which come best first, with the objects of their class that have at least an IoU.

    Each takes the object that it overlaps most of those still free; of equals the last, as in COCO's evaluation.
    """
    is_hit = np.zeros((len(found), len(ious)), bool)
    counts = np.ones_like(is_hit)
    if not len(found) or not len(record.labels):
        return Marks(is_hit, counts)
    least = np.array(ious, float)
    overlap = coco_overlap(to_xywh(found.boxes_xyxy), to_xywh(record.boxes_xyxy), record.is_crowd.tolist())
    overlap[found.labels[:, None] != record.labels] = 0
    is_free = np.tile(~record.is_crowd, (len(ious), 1))
    each, last = np.arange(len(ious)), len(record.labels) - 1
    for rank in np.flatnonzero((overlap >= least.min()).any(axis=1)):
        of_free = np.where(is_free, overlap[rank], 0)
        target = last - np.argmax(of_free[:, ::-1], axis=1)
        hits = of_free[each, target] >= least
        is_free[each[hits], target[hits]] = False
        of_crowd = overlap[rank, record.is_crowd].max(initial=0)
        is_hit[rank], counts[rank] = hits, hits | (of_crowd < least)
    return Marks(is_hit, counts)
