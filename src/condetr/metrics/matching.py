"""Matching of detections and ground truth: precision-recall curves and the confusion matrix."""

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from faster_coco_eval.core.mask import iou as coco_overlap
from jaxtyping import Bool, Float, Int

from condetr.boxes import to_xywh
from condetr.data.dataset import ImageRecord, Split
from condetr.metrics.coco import accumulated_evaluator
from condetr.metrics.threshold import SAME_OBJECT_IOU
from condetr.shapes import Detections

with warnings.catch_warnings():
    # supervision computes this without OpenCV, which it only needs for drawing.
    warnings.filterwarnings("ignore", message="OpenCV")
    import supervision


class PrecisionRecall(NamedTuple):
    """Interpolated precision of every class at increasing recall, NaN for classes that do not occur."""

    recall: Float[np.ndarray, " R"]
    precision_50: Float[np.ndarray, "K R"]
    precision_75: Float[np.ndarray, "K R"]
    score_50: Float[np.ndarray, "K R"]
    """Score of the detection with which a class reaches each recall at IoU 0.5; 0 where it never does."""


def precision_recall(split: Split, detections: Mapping[int, Detections]) -> PrecisionRecall:
    """Return COCO's precision-recall curves at IoU 0.5 and 0.75; their mean over recall is a class's AP50 and AP75."""
    evaluator = accumulated_evaluator(split, detections)
    precision = np.where(evaluator.eval["precision"] < 0, np.nan, evaluator.eval["precision"])[..., 0, -1]
    at_50, at_75 = (int(np.flatnonzero(np.isclose(evaluator.params.iouThrs, iou))[0]) for iou in (0.5, 0.75))
    return PrecisionRecall(
        recall=evaluator.params.recThrs,
        precision_50=precision[at_50].T,
        precision_75=precision[at_75].T,
        score_50=np.clip(evaluator.eval["scores"][at_50, ..., 0, -1].T, 0, None),
    )


def confusion_matrix(
    split: Split, detections: Mapping[int, Detections], *, threshold: float
) -> Int[np.ndarray, "Truth Predicted"]:
    """Count ground truth classes (rows) against detected classes (columns); the last of each is "background".

    Detections that score at least `threshold` are matched to ground truth of IoU above 0.5, same class first, then by
    IoU. As in COCO's evaluation, crowd regions are not objects, and detections inside one of their class are ignored.
    """
    truth = [_truth(record) for record in split.records]
    found = [_found(record, detections.get(record.image_id)) for record in split.records]
    if not truth:
        return np.zeros((len(split.label_map) + 1,) * 2, dtype=np.int64)
    matrix: np.ndarray = supervision.ConfusionMatrix.from_detections(
        predictions=found,
        targets=truth,
        classes=list(split.label_map.names),
        conf_threshold=threshold,
        iou_threshold=SAME_OBJECT_IOU,
    ).matrix
    return matrix.astype(np.int64)


def image_f1(split: Split, detections: Mapping[int, Detections], *, threshold: float) -> dict[int, float]:
    """Return the F1 of each image at IoU 0.5 by image id; images with neither objects nor detections are left out."""
    scores: dict[int, float] = {}
    for record in split.records:
        alone = Split(name=split.name, records=(record,), label_map=split.label_map)
        found = {record.image_id: detections[record.image_id]} if record.image_id in detections else {}
        matrix = confusion_matrix(alone, found, threshold=threshold)
        truths, founds = matrix[:-1].sum(), matrix[:, :-1].sum()
        if truths + founds > 0:
            scores[record.image_id] = float(2 * np.trace(matrix[:-1, :-1]) / (truths + founds))
    return scores


def _truth(record: ImageRecord) -> supervision.Detections:
    return supervision.Detections(
        xyxy=record.boxes_xyxy[~record.is_crowd], class_id=record.labels[~record.is_crowd].astype(int)
    )


def _found(record: ImageRecord, detections: Detections | None) -> supervision.Detections:
    if detections is None or len(detections) == 0:
        return supervision.Detections(xyxy=np.zeros((0, 4)), class_id=np.zeros(0, int), confidence=np.zeros(0))
    counts = ~only_in_a_crowd(record, detections)
    return supervision.Detections(
        xyxy=detections.boxes_xyxy[counts],
        class_id=detections.labels[counts].astype(int),
        confidence=detections.scores[counts],
    )


def only_in_a_crowd(record: ImageRecord, detections: Detections) -> Bool[np.ndarray, " N"]:
    """Tell which detections are at least half inside a crowd region of their class and match no single object."""
    if not record.is_crowd.any() or len(detections) == 0:
        return np.zeros(len(detections), dtype=bool)
    overlap = coco_overlap(to_xywh(detections.boxes_xyxy), to_xywh(record.boxes_xyxy), record.is_crowd.tolist())
    on_object = (overlap[:, ~record.is_crowd] > SAME_OBJECT_IOU).any(axis=1)
    of_its_class = detections.labels[:, None] == record.labels[record.is_crowd]
    in_crowd = (of_its_class & (overlap[:, record.is_crowd] >= SAME_OBJECT_IOU)).any(axis=1)
    only_in_crowd: np.ndarray = in_crowd & ~on_object
    return only_in_crowd
