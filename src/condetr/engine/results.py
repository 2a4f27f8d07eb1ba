"""The final numbers of a training, on disk and as a value."""

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

import condetr
from condetr.data.dataset import Split
from condetr.data.sources import DataSplits
from condetr.engine.checkpoint import Progress
from condetr.engine.config import TrainConfig
from condetr.engine.evaluate import Evaluation
from condetr.engine.run_folder import RunFolder
from condetr.inference.atomic import replaced_file, write_json
from condetr.metrics.coco import result_rows
from condetr.shapes import Detections


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
    evaluation: Evaluation,
    config: TrainConfig,
    splits: DataSplits,
    progress: Progress,
    parameters: int,
) -> TrainResult:
    """Write results.json and predictions.json about the best model."""
    last = progress.rows[-1]
    results = {
        **evaluation.results.to_dict(),
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
    is_first_process = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
    if is_first_process:
        with replaced_file(run.results) as draft:
            write_json(draft, results)
        with replaced_file(run.predictions) as draft:
            draft.write_text(json.dumps(result_rows(evaluation.detections, label_map=splits.val.label_map)))
    return TrainResult(
        run=run,
        results=results,
        split=splits.val,
        detections=evaluation.detections,
        is_first_process=is_first_process,
    )


def _versions() -> dict[str, str]:
    libraries = ("torch", "torchvision", "lightning-fabric", "faster-coco-eval")
    return {
        "condetr": condetr.__version__,
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
    }
