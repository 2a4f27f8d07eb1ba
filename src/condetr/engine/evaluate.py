"""Evaluation inside a training: every process does its share of the images, all of them get the numbers."""

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch

import condetr
from condetr.data.dataset import Split
from condetr.data.loader import EvalLoader
from condetr.data.sources import DataSplits
from condetr.detectors.detector import Detector
from condetr.engine.checkpoint import Progress
from condetr.engine.config import TrainConfig
from condetr.inference.detect import detect
from condetr.metrics.coco import CocoResults, evaluate_coco, result_rows
from condetr.runs.folder import RunFolder
from condetr.shapes import Detections
from condetr.storage.atomic import replaced_file, write_json


class Evaluation(NamedTuple):
    """The numbers and what they were computed from."""

    results: CocoResults
    detections: dict[int, Detections]
    """By image id; those whose score or box is not finite are left out."""
    left_out: int
    """How many of these there were."""


def evaluate_shares(
    detector: Detector,
    *,
    split: Split,
    loader: EvalLoader,
    device: torch.device,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score a detector on a split; `loader` holds this process's share of it. Always in fp32."""
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
    """Leave out what a detector whose weights have blown up says."""
    return found.where(np.isfinite(found.scores) & np.isfinite(found.boxes_xyxy).all(axis=1))


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training leaves behind."""

    run: RunFolder
    results: dict[str, Any]
    """As in results.json."""
    split: Split
    """The validation images."""
    detections: dict[int, Detections]
    """What the best model found on them, by image id."""
    is_first_process: bool
    """True in the one process that writes files."""


def write_results(
    run: RunFolder,
    *,
    detections: dict[int, Detections],
    config: TrainConfig,
    splits: DataSplits,
    progress: Progress,
    parameters: int,
    is_first_process: bool,
) -> TrainResult:
    """Write results.json and predictions.json about the best model, which found `detections`."""
    last = progress.rows[-1]
    results = {
        **evaluate_coco(splits.val, detections).to_dict(),
        "recipe": config.recipe,
        "best_epoch": progress.best_epoch,
        "last": {name: last[name] for name in ("AP", "AP50", "AP75")},
        "epochs": progress.epoch,
        "steps": progress.step,
        "skipped_steps": progress.skipped_steps,
        "images_seen": progress.images,
        "train_seconds": round(progress.seconds, 1),
        "train_images": len(splits.train),
        "val_images": len(splits.val),
        "split": splits.val.name,
        "parameters": parameters,
        "label_map": splits.val.label_map.to_list(),
        "warnings": progress.warnings,
        "findings": [{"severity": f.severity, "what": f.what, "examples": f.examples} for f in splits.findings],
        "versions": _versions(),
    }
    if is_first_process:
        with replaced_file(run.results) as draft:
            write_json(draft, results)
        with replaced_file(run.predictions) as draft:
            draft.write_text(json.dumps(result_rows(detections, label_map=splits.val.label_map)))
    return TrainResult(
        run=run,
        results=results,
        split=splits.val,
        detections=detections,
        is_first_process=is_first_process,
    )


def _versions() -> dict[str, str]:
    libraries = ("torch", "torchvision", "lightning-fabric", "faster-coco-eval")
    return {
        "condetr": condetr.__version__,
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
    }
