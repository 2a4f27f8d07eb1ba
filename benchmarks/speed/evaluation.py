"""AP of 5,000 images with 100 detections each: ours beside pycocotools."""

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.speed.report import Table
from condetr.boxes import to_xywh
from condetr.data.dataset import ImageRecord, Split
from condetr.labels import Category, LabelMap
from condetr.metrics.coco import evaluate_coco
from condetr.shapes import Detections

NUM_CLASSES, BOXES, DETECTIONS = 80, 7, 100
FIGURES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100")


def measure(*, quick: bool) -> Table:
    """Time both from arrays of detections to the twelve numbers; the slow pycocotools runs only once."""
    split, detections = _data(images=200 if quick else 5000)
    ours, theirs = _timed(lambda: _our_figures(split, detections)), _timed(lambda: _their_figures(split, detections))
    difference = float(np.abs(np.subtract(ours[1], theirs[1])).max())
    return Table(
        name="evaluation",
        title=f"COCO evaluation of {len(split):,} images with {DETECTIONS} detections each, {NUM_CLASSES} classes",
        columns=("", "seconds", "AP"),
        rows=[("pycocotools", theirs[0], theirs[1][0]), ("ours", ours[0], ours[1][0])],
        headline={"ratio": theirs[0] / ours[0], "largest difference": difference},
        notes=["both start from arrays of boxes, scores and labels for each image"],
    )


def _data(*, images: int) -> tuple[Split, dict[int, Detections]]:
    """Return random boxes, and detections: perturbed boxes and noise, with different scores."""
    rng = np.random.default_rng(0)
    label_map = LabelMap(tuple(Category(number, f"class {number}") for number in range(NUM_CLASSES)))
    scores = rng.permutation(images * DETECTIONS).reshape(images, DETECTIONS) / (images * DETECTIONS)
    records, detections = [], {}
    for image_id in range(images):
        boxes_xyxy, labels = _boxes(rng, BOXES), rng.integers(0, NUM_CLASSES, BOXES)
        records.append(
            ImageRecord(
                image_id=image_id,
                path=Path(f"{image_id}.jpg"),
                size_hw=(480, 640),
                boxes_xyxy=boxes_xyxy,
                labels=labels,
                is_crowd=np.zeros(BOXES, dtype=bool),
                areas=(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1),
            )
        )
        noise = DETECTIONS - BOXES
        found = np.concatenate([boxes_xyxy + rng.normal(0, 4, boxes_xyxy.shape), _boxes(rng, noise)])
        detections[image_id] = Detections(
            boxes_xyxy=found.astype(np.float32),
            scores=np.sort(scores[image_id])[::-1].astype(np.float32),
            labels=np.concatenate([labels, rng.integers(0, NUM_CLASSES, noise)]),
            names=("",) * DETECTIONS,
        )
    return Split(name="val", records=tuple(records), label_map=label_map), detections


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 1, (count, 2)) * (500, 350)
    return np.concatenate([corners, corners + rng.uniform(5, 130, (count, 2))], axis=1).astype(np.float32)


def _timed(run: Callable[[], list[float]]) -> tuple[float, list[float]]:
    began = time.perf_counter()
    figures = run()
    return time.perf_counter() - began, figures


def _our_figures(split: Split, detections: dict[int, Detections]) -> list[float]:
    results = evaluate_coco(split, detections)
    return [getattr(results, name) for name in FIGURES]


def _their_figures(split: Split, detections: dict[int, Detections]) -> list[float]:
    truth = COCO()
    truth.dataset = _dataset(split)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(_result_columns(detections)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) for value in evaluator.stats[: len(FIGURES)]]


def _result_columns(detections: dict[int, Detections]) -> np.ndarray:
    """Return image, left, top, width, height, score and class of every detection, pycocotools' fastest input."""
    return np.concatenate(
        [
            np.column_stack([np.full(len(each), image_id), to_xywh(each.boxes_xyxy), each.scores, each.labels])
            for image_id, each in detections.items()
        ]
    )


def _dataset(split: Split) -> dict[str, list[dict[str, object]]]:
    annotations: list[dict[str, object]] = []
    for record in split.records:
        for (x1, y1, x2, y2), label, area in zip(
            record.boxes_xyxy.astype(float).tolist(), record.labels.tolist(), record.areas.tolist(), strict=True
        ):
            place = {"image_id": record.image_id, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area}
            annotations.append({"id": len(annotations) + 1, "category_id": label, "iscrowd": 0, **place})
    return {
        "images": [{"id": record.image_id} for record in split.records],
        "categories": [{"id": category.dataset_id, "name": category.name} for category in split.label_map.categories],
        "annotations": annotations,
    }
