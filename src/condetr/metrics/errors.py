"""What keeps AP50 down: the kinds of errors, and what each of them costs.

The kinds and the way they are told apart are those of TIDE (Bolya et al., ECCV 2020): a false positive is of the first
kind that fits, in the order of `FALSE_POSITIVES`. The cost of a kind is how much AP50 would rise without its errors
alone, so the costs do not add up to 1 - AP50.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from faster_coco_eval.core.mask import iou as coco_overlap
from jaxtyping import Bool, Float, Int

from condetr.boxes import to_xywh
from condetr.data.dataset import ImageRecord, Split
from condetr.metrics.coco import SIZES
from condetr.metrics.matching import only_in_a_crowd
from condetr.metrics.threshold import SAME_OBJECT_IOU
from condetr.shapes import NOTHING, Detections

BACKGROUND_IOU = 0.1

FALSE_POSITIVES = ("localisation", "class", "duplicate", "background", "both")
KINDS = (*FALSE_POSITIVES, "missed")

MEANINGS = {
    "localisation": "the right class at IoU 0.1 to 0.5",
    "class": "the box of an object, with another class",
    "duplicate": "an object that a better detection has found",
    "background": "no object at IoU 0.1 or more",
    "both": "the wrong class, and at IoU below 0.5",
    "missed": "an object that no detection is about",
}

MOST_DETECTIONS = 100
"""Of an image and class, the best ones."""

CORRECT = -1


class Errors(NamedTuple):
    """The errors in the images of a split."""

    AP50: float
    costs: Float[np.ndarray, " 6"]
    """AP50 that each of the kinds costs, NaN without objects."""
    class_costs: Float[np.ndarray, "6 K"]
    """The same for each class, NaN for classes without objects."""
    counts: Int[np.ndarray, "6 K"]
    """Errors by class: of the detection, or of the missed object."""
    size_counts: Int[np.ndarray, "6 3"]
    """Errors by size: of the detection's box, or of the missed object."""


class Verdict(NamedTuple):
    """What became of the detections and objects of one image."""

    kinds: tuple[str, ...]
    """Of each detection: `hit`, one of FALSE_POSITIVES, or `ignored` (in a crowd region, or beyond the best 100)."""
    is_found: Bool[np.ndarray, " T"]
    """Of each object; a crowd region counts as found."""


class _Judged(NamedTuple):
    """The detections and objects of one image."""

    indices: Int[np.ndarray, " N"]
    """Of the detections that are not ignored."""
    scores: Float[np.ndarray, " N"]
    labels: Int[np.ndarray, " N"]
    areas: Float[np.ndarray, " N"]
    kinds: Int[np.ndarray, " N"]
    """Index in KINDS, or CORRECT."""
    meant: Int[np.ndarray, " N"]
    """The object that a correct, mislocated or misclassified detection is about, otherwise -1."""
    object_labels: Int[np.ndarray, " T"]
    object_areas: Float[np.ndarray, " T"]
    is_found: Bool[np.ndarray, " T"]
    is_missed: Bool[np.ndarray, " T"]
    """No detection is about it."""


def find_errors(split: Split, detections: Mapping[int, Detections]) -> Errors:
    """Tell the errors of detections, keyed by image id, apart and compute what each kind costs."""
    num_classes = len(split.label_map)
    images = [_judge(record, detections.get(record.image_id, NOTHING)) for record in split.records]
    before = _class_aps(images, num_classes=num_classes)
    after = np.stack([_class_aps(images, num_classes=num_classes, without=kind) for kind in range(len(KINDS))])
    counts, size_counts = np.zeros((len(KINDS), num_classes), np.int64), np.zeros((len(KINDS), len(SIZES)), np.int64)
    for image in images:
        is_error, missed = image.kinds != CORRECT, len(KINDS) - 1
        np.add.at(counts, (image.kinds[is_error], image.labels[is_error]), 1)
        counts[missed] += np.bincount(image.object_labels[image.is_missed], minlength=num_classes)
        np.add.at(size_counts, (image.kinds[is_error], _size(image.areas[is_error])), 1)
        size_counts[missed] += np.bincount(_size(image.object_areas[image.is_missed]), minlength=len(SIZES))
    occurs = ~np.isnan(before)
    after[:, occurs] = np.nan_to_num(after[:, occurs], nan=1.0)  # all objects of the class were missed
    mean = before[occurs].mean() if occurs.any() else np.nan
    # An oracle may lower the AP of a class a little, by raising the recall of another; such a cost is none.
    costs = (after - before).clip(min=0)
    return Errors(
        AP50=float(mean),
        costs=costs[:, occurs].mean(axis=1) if occurs.any() else np.full(len(KINDS), np.nan),
        class_costs=costs,
        counts=counts,
        size_counts=size_counts,
    )


def judge(record: ImageRecord, detections: Detections) -> Verdict:
    """Tell which detections in an image are hits, why the others are none, and which objects are found."""
    judged = _judge(record, detections)
    kinds = ["ignored"] * len(detections)
    for index, kind in zip(judged.indices.tolist(), judged.kinds.tolist(), strict=True):
        kinds[index] = "hit" if kind == CORRECT else FALSE_POSITIVES[kind]
    is_found = record.is_crowd.copy()
    is_found[~record.is_crowd] = judged.is_found
    return Verdict(tuple(kinds), is_found)


def _judge(record: ImageRecord, detections: Detections) -> _Judged:
    indices = np.flatnonzero(~only_in_a_crowd(record, detections))
    indices = indices[_are_best_of_their_class(detections.labels[indices])]
    found = detections.take(indices)
    is_object = ~record.is_crowd
    object_labels = record.labels[is_object]
    ious = np.zeros((len(found), len(object_labels)))
    if ious.size:
        objects_xywh = to_xywh(record.boxes_xyxy[is_object])
        ious = coco_overlap(to_xywh(found.boxes_xyxy), objects_xywh, [False] * len(object_labels))
    kinds, meant = np.full(len(found), CORRECT), np.full(len(found), -1)
    is_found, false_positives = np.zeros(len(object_labels), dtype=bool), []
    for i, label in enumerate(found.labels):
        overlaps = np.where((object_labels == label) & ~is_found, ious[i], 0.0)
        if overlaps.max(initial=0.0) >= SAME_OBJECT_IOU:
            meant[i] = overlaps.argmax()
            is_found[meant[i]] = True
        else:
            false_positives.append(i)  # told apart once all objects are matched
    for i in false_positives:
        kind, meant[i] = _false_positive(ious[i], is_same=object_labels == found.labels[i])
        kinds[i] = FALSE_POSITIVES.index(kind)
    is_missed = ~is_found
    is_missed[meant[meant >= 0]] = False
    sides = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
    return _Judged(
        indices=indices,
        scores=found.scores,
        labels=found.labels,
        areas=sides.prod(axis=1),
        kinds=kinds,
        meant=meant,
        object_labels=object_labels,
        object_areas=record.areas[is_object],
        is_found=is_found,
        is_missed=is_missed,
    )


def _false_positive(ious: Float[np.ndarray, " T"], *, is_same: Bool[np.ndarray, " T"]) -> tuple[str, int]:
    """Return the kind of a false positive, and the object that another class or box would have found."""
    same, other = (np.where(among, ious, 0.0) for among in (is_same, ~is_same))
    overlap, other_overlap = same.max(initial=0.0), other.max(initial=0.0)
    if BACKGROUND_IOU <= overlap < SAME_OBJECT_IOU:
        return "localisation", int(same.argmax())
    if other_overlap >= SAME_OBJECT_IOU:
        return "class", int(other.argmax())
    if overlap >= SAME_OBJECT_IOU:
        return "duplicate", -1
    return ("background" if other_overlap < BACKGROUND_IOU else "both"), -1


def _class_aps(images: list[_Judged], *, num_classes: int, without: int | None = None) -> Float[np.ndarray, " K"]:
    """Return each class's AP50 without one kind of errors, NaN for classes without objects."""
    truths = np.zeros(num_classes, np.int64)
    scores, labels, are_correct = [], [], []
    for image in images:
        is_counted = ~image.is_missed if without == len(FALSE_POSITIVES) else np.ones_like(image.is_missed)
        truths += np.bincount(image.object_labels[is_counted], minlength=num_classes)
        is_kept, is_correct, label = image.kinds != without, image.kinds == CORRECT, image.labels.copy()
        is_found = image.is_found.copy()
        for i in np.flatnonzero((image.kinds == without) & (image.meant >= 0)):  # the best detection of each object
            if not is_found[image.meant[i]]:
                is_found[image.meant[i]] = True
                is_kept[i] = is_correct[i] = True
                label[i] = image.object_labels[image.meant[i]]
        scores.append(image.scores[is_kept])
        labels.append(label[is_kept])
        are_correct.append(is_correct[is_kept])
    together = [np.concatenate(each) if each else np.zeros(0) for each in (scores, labels, are_correct)]
    return np.array([_ap(*together, label=label, truths=int(count)) for label, count in enumerate(truths)])


def _ap(
    scores: Float[np.ndarray, " N"],
    labels: Int[np.ndarray, " N"],
    is_correct: Bool[np.ndarray, " N"],
    *,
    label: int,
    truths: int,
) -> float:
    """Return the mean of the interpolated precision at 101 recalls."""
    if truths == 0:
        return float("nan")
    mine = labels == label
    hits = np.cumsum(is_correct[mine][np.argsort(-scores[mine], kind="stable")])
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / truths, np.linspace(0, 1, 101))
    return float(np.append(precision, 0.0)[np.minimum(places, len(hits))].mean())


def _are_best_of_their_class(labels: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Tell which detections COCO counts, of those of one image, the best first."""
    ranks = np.array([(labels[:place] == label).sum() for place, label in enumerate(labels)], np.int64)
    is_best: np.ndarray = ranks < MOST_DETECTIONS
    return is_best


def _size(areas: Float[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    return np.searchsorted([*SIZES.values()][:-1], areas, side="right")
