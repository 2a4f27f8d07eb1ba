"""Evaluation during training: every process evaluates its share of the images, and all get the metrics."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from condetr.data.dataset import Split
from condetr.data.loader import EvalLoader
from condetr.detectors.detector import Detector
from condetr.inference.detect import detect
from condetr.metrics.coco import CocoResults, evaluate_coco
from condetr.shapes import Detections


class Evaluation(NamedTuple):
    """Metrics, and the detections that they were computed from."""

    results: CocoResults
    detections: dict[int, Detections]
    """Detections by image id, without those whose score or box is not finite."""
    left_out: int
    """How many detections were not finite."""


def evaluate_shares(
    detector: Detector,
    *,
    split: Split,
    loader: EvalLoader,
    device: torch.device,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate a detector on a split in fp32; `loader` holds this process's share of it."""
    found = detect(detector, loader, label_map=split.label_map, device=device, progress=progress)
    everything = _gather(found)
    detections = {image_id: _finite(each) for image_id, each in everything.items()}
    left_out = sum(map(len, everything.values())) - sum(map(len, detections.values()))
    return Evaluation(evaluate_coco(split, detections), detections, left_out)


def _gather(found: dict[int, Detections]) -> dict[int, Detections]:
    """Return the detections of all processes."""
    if not torch.distributed.is_initialized():
        return found
    shares: list[dict[int, Detections]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(shares, found)
    return {image_id: detections for share in shares for image_id, detections in share.items()}


def _finite(found: Detections) -> Detections:
    """Return the detections without non-finite ones, which a diverged detector produces."""
    return found.where(np.isfinite(found.scores) & np.isfinite(found.boxes_xyxy).all(axis=1))
