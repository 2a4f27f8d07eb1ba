"""Evaluation inside a training, and what a training leaves behind: numbers, detections, facts about the run."""

import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch

import condetr
from condetr.data.dataset import Finding, Split
from condetr.data.loader import EvalLoader
from condetr.data.sources import DataSplits
from condetr.detectors.detector import Detector
from condetr.engine.checkpoint import Progress, Row
from condetr.engine.config import TrainConfig
from condetr.inference.detect import detect
from condetr.labels import LabelMap
from condetr.metrics.coco import CocoResults, evaluate_coco, result_rows, without_nan
from condetr.runs.folder import RunFolder
from condetr.shapes import Detections
from condetr.storage.atomic import replaced_file, write_json


class LastScores(NamedTuple):
    """Average precision after the last epoch, from 0 to 1; NaN if the validation images have no boxes."""

    AP: float
    AP50: float
    AP75: float


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Facts about a training, besides the metrics of its best model."""

    recipe: str
    best_epoch: int
    """The epoch of the model that was kept, counted from 1; by default the best one."""
    last: LastScores
    epochs: int
    steps: int
    skipped_steps: int
    """Steps skipped because a loss or the gradient was not finite."""
    images_seen: int
    train_seconds: float
    """Training time, including evaluations."""
    train_images: int
    val_images: int
    split: str
    """The name of the validation split."""
    parameters: int
    label_map: LabelMap
    warnings: Mapping[str, str]
    """Warnings by the name of the check."""
    findings: tuple[Finding, ...]
    """Problems found in the data."""
    versions: Mapping[str, str]
    """Versions of Python and of the main libraries."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for what is undefined."""
        return {
            **vars(self),
            "last": without_nan(self.last._asdict()),
            "label_map": self.label_map.to_list(),
            "warnings": dict(self.warnings),
            "findings": [{"severity": f.severity, "what": f.what, "examples": f.examples} for f in self.findings],
            "versions": dict(self.versions),
        }


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of a training."""

    run: RunFolder
    results: CocoResults
    """The metrics of the best model on the validation images, as `condetr.evaluate` returns them."""
    facts: RunFacts
    split: Split
    """The validation images."""
    detections: dict[int, Detections]
    """Detections of the best model in these images, by image id."""
    is_first_process: bool
    """True in the process that writes files."""

    def to_dict(self) -> dict[str, Any]:
        """Return the content of results.json."""
        return {**self.results.to_dict(), **self.facts.to_dict()}


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
    """Write results.json and predictions.json for the best model and its `detections`."""
    result = TrainResult(
        run=run,
        results=evaluate_coco(splits.val, detections),
        facts=_facts(config, splits=splits, progress=progress, parameters=parameters),
        split=splits.val,
        detections=detections,
        is_first_process=is_first_process,
    )
    if result.is_first_process:
        with replaced_file(run.results) as draft:
            write_json(draft, result.to_dict())
        with replaced_file(run.predictions) as draft:
            draft.write_text(json.dumps(result_rows(result.detections, label_map=splits.val.label_map)))
    return result


def _facts(config: TrainConfig, *, splits: DataSplits, progress: Progress, parameters: int) -> RunFacts:
    return RunFacts(
        recipe=config.recipe,
        best_epoch=progress.best_epoch,
        last=_last_scores(progress.rows[-1]),
        epochs=progress.epoch,
        steps=progress.step,
        skipped_steps=progress.skipped_steps,
        images_seen=progress.images,
        train_seconds=round(progress.seconds, 1),
        train_images=len(splits.train),
        val_images=len(splits.val),
        split=splits.val.name,
        parameters=parameters,
        label_map=splits.val.label_map,
        warnings=dict(progress.warnings),
        findings=splits.findings,
        versions=_versions(),
    )


def _last_scores(row: Row) -> LastScores:
    scores = (row[name] for name in LastScores._fields)
    return LastScores(*(math.nan if score is None else float(score) for score in scores))


def _versions() -> dict[str, str]:
    libraries = ("torch", "torchvision", "lightning-fabric", "faster-coco-eval")
    return {
        "condetr": condetr.__version__,
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
    }


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
