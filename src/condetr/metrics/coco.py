"""Average precision and recall as COCO defines them, computed by faster-coco-eval."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Float, Int

from condetr.boxes import to_xywh
from condetr.data.dataset import ImageRecord, Split
from condetr.errors import InputError
from condetr.labels import LabelMap
from condetr.metrics.threshold import best_threshold
from condetr.shapes import Detections
from condetr.words import counted

Size = Literal["small", "medium", "large"]
SIZES: Mapping[Size, float] = {"small": 32.0**2, "medium": 96.0**2, "large": math.inf}
"""The areas in pixels below which COCO's sizes lie."""


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """The metrics of one class."""

    name: str
    dataset_id: int
    images: int
    """Images that hold at least one object of the class; crowd regions do not count."""
    boxes: int
    """Objects of the class, crowd regions not counted."""
    AP: float
    AP50: float


@dataclass(frozen=True, kw_only=True)
class CocoResults:
    """The COCO metrics of a split, each in 0..1, or NaN if the split has no ground truth for it."""

    AP: float
    """Mean over IoU .50:.05:.95, recall thresholds and the classes that occur."""
    AP50: float
    AP75: float
    AP_small: float
    """Objects of less than 32 x 32 pixels by the data's areas; medium ends at 96 x 96."""
    AP_medium: float
    AP_large: float
    AR_1: float
    """Mean recall with the best detection of every image and class; AR_10 and AR_100 take more."""
    AR_10: float
    AR_100: float
    F1: float
    """The highest F1 at IoU 0.5 that a score threshold gives, of all classes together; 0 if nothing is found."""
    threshold: float
    """That threshold; NaN if nothing is found."""
    per_class: tuple[ClassResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for what is undefined."""
        plain = without_nan(asdict(self))
        return {**plain, "per_class": [without_nan(row) for row in plain["per_class"]]}


def evaluate_coco(split: Split, detections: Mapping[int, Detections]) -> CocoResults:
    """Score detections, keyed by image id, against the ground truth of a split.

    Every image of the split counts, with or without detections. At most the 100 best detections of an image and class
    are used. Raises InputError for detections of an image that the split does not hold.
    """
    evaluator = accumulated_evaluator(split, detections)
    evaluator.summarize()
    figures = [math.nan if value == -1 else float(value) for value in evaluator.stats]
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100")
    best = best_threshold(split, detections)
    return CocoResults(
        **dict(zip(names, figures, strict=False)),
        F1=best.f1 if best is not None else math.nan if math.isnan(figures[0]) else 0.0,
        threshold=math.nan if best is None else best.threshold,
        per_class=_class_results(split, precision=evaluator.eval["precision"][..., 0, -1]),
    )


def accumulated_evaluator(split: Split, detections: Mapping[int, Detections]) -> COCOeval_faster:
    """Return faster-coco-eval's evaluator after `evaluate` and `accumulate`.

    Its `eval["precision"]` is indexed by IoU, recall, training id, area range and number of detections, and is -1 where
    undefined.
    """
    records = sorted(split.records, key=lambda record: record.image_id)
    _refuse_unknown_images(records, detections)
    header = {
        "images": [
            {"id": number, "height": record.size_hw[0], "width": record.size_hw[1]}
            for number, record in enumerate(records, start=1)
        ],
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(split.label_map.names)],
    }
    evaluator = COCOeval_faster(
        COCO({**header, "annotations": _truth_rows(records)}, print_function=_say_nothing),
        COCO({**header, "annotations": _detection_rows(records, detections)}, print_function=_say_nothing),
        iouType="bbox",
        print_function=_say_nothing,
    )
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def result_rows(detections: Mapping[int, Detections], *, label_map: LabelMap) -> list[dict[str, Any]]:
    """Return detections in COCO's results format, under their image ids and the data set's own category ids."""
    return [
        {"image_id": image_id, "category_id": label_map.dataset_ids[label], "bbox": box, "score": score}
        for image_id, found in detections.items()
        for label, box, score in zip(
            found.labels.tolist(),
            to_xywh(found.boxes_xyxy).round(2).tolist(),
            found.scores.astype(float).round(5).tolist(),
            strict=True,
        )
    ]


def without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """Return the same values with None instead of NaN, which JSON does not have."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}


def _refuse_unknown_images(records: list[ImageRecord], detections: Mapping[int, Detections]) -> None:
    strangers = sorted(set(detections) - {record.image_id for record in records})
    if strangers:
        some = ", ".join(str(image_id) for image_id in strangers[:3])
        raise InputError(
            f"the split lacks {counted(len(strangers), 'image')} with detections (image id {some}); "
            "evaluate detections against the split that they were made on"
        )


def _truth_rows(records: list[ImageRecord]) -> list[dict[str, Any]]:
    if not records:
        return []
    counts = [len(record.labels) for record in records]
    return _rows(
        image_numbers=np.repeat(np.arange(1, len(records) + 1), counts),
        labels=np.concatenate([record.labels for record in records]),
        boxes_xyxy=np.concatenate([record.boxes_xyxy for record in records]),
        area=np.concatenate([record.areas for record in records]),
        iscrowd=np.concatenate([record.is_crowd for record in records]).astype(int),
    )


def _detection_rows(records: list[ImageRecord], detections: Mapping[int, Detections]) -> list[dict[str, Any]]:
    found = [(number, detections[r.image_id]) for number, r in enumerate(records, 1) if r.image_id in detections]
    if not found:
        return []
    boxes_xyxy = np.concatenate([each.boxes_xyxy for _, each in found])
    return _rows(
        image_numbers=np.repeat([number for number, _ in found], [len(each) for _, each in found]),
        labels=np.concatenate([each.labels for _, each in found]),
        boxes_xyxy=boxes_xyxy,
        area=to_xywh(boxes_xyxy)[:, 2:].prod(axis=1),
        iscrowd=np.zeros(len(boxes_xyxy), dtype=int),
        score=np.concatenate([each.scores for _, each in found]),
    )


def _rows(
    *,
    image_numbers: np.ndarray,
    labels: np.ndarray,
    boxes_xyxy: Float[np.ndarray, "N 4"],
    **columns: np.ndarray,
) -> list[dict[str, Any]]:
    """Return COCO annotations from columns.

    Ids are counted from 1, because 0 means "no match" for the evaluator. Images and classes are renumbered in the order
    of their ids, so that any id is allowed; ties between scores are still broken by image id.
    """
    columns = {
        "id": np.arange(1, len(labels) + 1),
        "image_id": image_numbers,
        "category_id": labels.astype(int) + 1,
        "bbox": to_xywh(boxes_xyxy),
        **columns,
    }
    lists = [column.tolist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _class_results(split: Split, *, precision: Float[np.ndarray, "IoU R K"]) -> tuple[ClassResult, ...]:
    objects = [record.labels[~record.is_crowd] for record in split.records]
    boxes = _count(objects, num_classes=len(split.label_map))
    images = _count([np.unique(labels) for labels in objects], num_classes=len(split.label_map))
    return tuple(
        ClassResult(
            name=category.name,
            dataset_id=category.dataset_id,
            images=int(images[label]),
            boxes=int(boxes[label]),
            AP=_mean_defined(precision[..., label]),
            AP50=_mean_defined(precision[0, :, label]),
        )
        for label, category in enumerate(split.label_map.categories)
    )


def _count(labels: list[np.ndarray], *, num_classes: int) -> Int[np.ndarray, " K"]:
    return np.bincount(np.concatenate([np.zeros(0, int), *labels]), minlength=num_classes)


def _mean_defined(precision: Float[np.ndarray, "..."]) -> float:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else math.nan


def _say_nothing(*_: object) -> None:
    """Replace the evaluator's print."""
