"""The state of a training as a file: weights, optimizer, average, loss scale, position, history and best score.

It holds no random state: the order of images and every augmentation follow from the seed, the epoch and the image, and
dropout from the seed, the step and the process.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

import condetr
from condetr.config import dump, from_mapping
from condetr.data.sources import DataSplits
from condetr.engine.config import TrainConfig
from condetr.engine.processes import resolve_precision
from condetr.engine.step import Stepper
from condetr.errors import InputError, first_line
from condetr.runs.contents import NUMERICALLY_NEUTRAL
from condetr.shapes import Detections
from condetr.storage.atomic import replaced_file
from condetr.storage.pickles import TORCH_LOAD_ERRORS, load_pickle, save_pickle

FORMAT = 2
"""The format of checkpoints; format 1 had no detections, and kept the loss weights outside the detector's settings."""

Row = dict[str, float | int | None]
"""The numbers of one epoch: the columns of metrics.csv and timing.csv."""

MAY_CHANGE = (*NUMERICALLY_NEUTRAL, "data.path", "epochs", "max_steps", "schedule")
"""Settings that may differ when a training is resumed. Moved data is recognised by its classes and counts, and a new
schedule must agree with the steps made."""

PLANNED = ("epochs", "max_steps", "evaluate_every", "schedule")
"""Settings that a budget of minutes determines."""

_CURE = "restore it, or start again with --out, from the best model with --init-from if there is one"
_PARTS = {"detector": dict, "optimizer": dict, "progress": dict, "label_map": list, "settings": dict}


@dataclass(kw_only=True)
class Progress:
    """The progress of a training, without tensors."""

    epoch: int = 0
    """Completed epochs."""
    step: int = 0
    """Optimizer steps made, including those of the unfinished epoch."""
    images: int = 0
    """Images seen, over all processes."""
    seconds: float = 0.0
    """Time spent, including evaluations."""
    skipped_steps: int = 0
    """Steps skipped because a loss or the gradient was not finite."""
    best_ap: float = -1.0
    best_epoch: int = 0
    patience_ap: float = -1.0
    """AP that the next evaluations must exceed, for early stopping."""
    evaluations_since_best: int = 0
    """Evaluations since `patience_ap` was set."""
    epoch_sums: dict[str, float] = field(default_factory=dict)
    """Sums of the losses over the steps of the unfinished epoch."""
    epoch_count: int = 0
    """The number of steps in these sums."""
    rows: list[Row] = field(default_factory=list)
    warnings: dict[str, str] = field(default_factory=dict)
    """Warnings so far, by the name of the check."""
    plans: int = 0
    """How often the length was planned, with a budget of minutes."""


class Restored(NamedTuple):
    """The content of a checkpoint besides the state of the stepper."""

    progress: Progress
    best: dict[int, Detections] | None
    """Detections of the best model so far in the validation images, by image id."""
    config: TrainConfig
    """The settings, with the length that was planned."""


def save_checkpoint(
    path: Path,
    stepper: Stepper,
    *,
    progress: Progress,
    best: dict[int, Detections] | None,
    splits: DataSplits,
    config: TrainConfig,
) -> None:
    """Write a checkpoint; it replaces an older one of the same name only once it is complete."""
    state = {
        "format": FORMAT,
        "condetr": condetr.__version__,
        "detector": stepper.detector.state_dict(),
        "optimizer": stepper.optimizer.optimizer.state_dict(),
        "ema": None if stepper.ema is None else stepper.ema.state_dict(),
        "scaler": None if stepper.scaler is None else stepper.scaler.state_dict(),
        "progress": asdict(progress),
        "best": None if best is None else _packed(best),
        "label_map": splits.train.label_map.to_list(),
        "num_images": _num_images(splits),
        "settings": dump(_resolved(config, stepper.detector)),
    }
    with replaced_file(path) as draft:
        save_pickle(state, draft)


def restore_checkpoint(
    path: Path, stepper: Stepper, *, splits: DataSplits, config: TrainConfig, steps_per_epoch: int
) -> Restored:
    """Restore a training from `path`; raises InputError if its data set or its settings differ."""
    state = _read(path)
    _require_same_data(state, splits, path=path)
    then = _resolved(from_mapping(TrainConfig, state["settings"], source=str(path)), stepper.detector)
    if config.minutes is not None and config.minutes == then.minutes:
        config = replace(config, **{name: getattr(then, name) for name in PLANNED})
    changed = _first_difference(dump(then), dump(_resolved(config, stepper.detector)))
    if changed is not None:
        raise InputError(f"cannot resume with another setting: {changed}; keep it, or start again with --out")
    try:
        stepper.detector.load_state_dict(state["detector"])
        stepper.optimizer.optimizer.load_state_dict(state["optimizer"])
        if stepper.ema is not None:
            stepper.ema.load_state_dict(state["ema"])
        if stepper.scaler is not None:
            stepper.scaler.load_state_dict(state["scaler"])
        progress = TypeAdapter(Progress).validate_python(state["progress"])
        best = None if state["best"] is None else _unpacked(state["best"], names=splits.train.label_map.names)
    except TORCH_LOAD_ERRORS as error:
        raise InputError(f"cannot resume from {path}, which is damaged: {first_line(error)}; {_CURE}") from None
    _require_same_past(progress, then=then, now=config, steps_per_epoch=steps_per_epoch)
    stepper.follow(config, steps_per_epoch=steps_per_epoch)
    return Restored(progress, best, config)


def _packed(found: dict[int, Detections]) -> dict[str, Tensor]:
    """Return detections as a few large tensors, because a file of many small ones is slow."""
    sources = [each.sources for each in found.values() if each.sources is not None]
    return {
        "image_ids": torch.tensor([*found], dtype=torch.int64),
        "counts": torch.tensor([len(each) for each in found.values()], dtype=torch.int64),
        **{
            name: torch.cat([torch.from_numpy(getattr(each, name)) for each in found.values()])
            for name in ("boxes_xyxy", "scores", "labels")
        },
        **({"sources": torch.cat(list(map(torch.from_numpy, sources)))} if len(sources) == len(found) > 0 else {}),
    }


def _unpacked(packed: dict[str, Tensor], *, names: tuple[str, ...]) -> dict[int, Detections]:
    counts = packed["counts"].tolist()
    parts = zip(*(packed[name].split(counts) for name in ("boxes_xyxy", "scores", "labels")), strict=True)
    # Checkpoints of earlier versions lack the sources.
    sources = packed["sources"].split(counts) if "sources" in packed else [None] * len(counts)
    return {
        image_id: Detections(
            boxes_xyxy=boxes_xyxy.numpy(),
            scores=scores.numpy(),
            labels=labels.numpy(),
            names=tuple(names[label] for label in labels.tolist()),
            sources=None if origins is None else origins.numpy(),
        )
        for image_id, (boxes_xyxy, scores, labels), origins in zip(
            packed["image_ids"].tolist(), parts, sources, strict=True
        )
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = load_pickle(path)
    except TORCH_LOAD_ERRORS as error:
        raise InputError(f"cannot resume from {path}: {first_line(error)}; {_CURE}") from None
    if not isinstance(state, dict) or any(not isinstance(state.get(name), kind) for name, kind in _PARTS.items()):
        raise InputError(
            f"cannot resume from {path}: it is not a checkpoint of a training, or a part of it is missing; {_CURE}"
        )
    if state.get("format") != FORMAT:
        writer = f"condetr {state['condetr']}" if "condetr" in state else "an older condetr"
        raise InputError(
            f"cannot resume from {path}: {writer} wrote it, whose checkpoints differ from those of this "
            f"condetr {condetr.__version__}; continue with that version, or start from its best model with "
            f"--init-from {path.parent.parent}"
        )
    return state


def _resolved(config: TrainConfig, detector: nn.Module) -> TrainConfig:
    """Return the settings with `auto` precision resolved for the detector's device: it differs between devices."""
    device = next(detector.parameters()).device
    return replace(config, precision=resolve_precision(config.precision, device=device))


def _num_images(splits: DataSplits) -> dict[str, int]:
    return {"training": len(splits.train), "validation": len(splits.val)}


def _require_same_data(state: dict[str, Any], splits: DataSplits, *, path: Path) -> None:
    label_map = splits.train.label_map
    if state["label_map"] != label_map.to_list():
        known = ", ".join(str(row.get("name")) for row in state["label_map"] if isinstance(row, dict))
        raise InputError(f"cannot resume: {path} was trained on {known}, the data has {', '.join(label_map.names)}")
    for part, count in _num_images(splits).items():
        known_count = state.get("num_images", {}).get(part, count)
        if count != known_count:
            raise InputError(f"cannot resume: {path} has {known_count} {part} images, the data has {count}")


def _require_same_past(progress: Progress, *, then: TrainConfig, now: TrainConfig, steps_per_epoch: int) -> None:
    """Raise InputError unless the steps so far had the same learning rates with the new epochs and schedule."""
    if progress.epoch > now.epochs:
        raise InputError(f"cannot resume with epochs={now.epochs}: {progress.epoch} epochs are already trained")
    total = now.total_steps(steps_per_epoch)
    if progress.step > total:
        raise InputError(f"cannot resume with max_steps={now.max_steps}: {progress.step} steps are already made")
    if total > progress.step and progress.step < progress.epoch * steps_per_epoch:
        raise InputError(
            f"cannot resume with more steps: the last epoch was cut short by max_steps={then.max_steps}; start again "
            "from its best model with --init-from"
        )
    if progress.step == total and progress.epoch * steps_per_epoch >= total and not progress.best_epoch:
        raise InputError(
            f"cannot resume with epochs={now.epochs}: they are already trained, and none of them was evaluated, so "
            "there is no best model; set one epoch more"
        )
    old, new = (
        each.schedule.build(steps_per_epoch=steps_per_epoch, steps=each.total_steps(steps_per_epoch))
        for each in (then, now)
    )
    made = min(progress.step, total)
    _require_same_images(then, now, made=made, steps_per_epoch=steps_per_epoch)
    # Rates drop at the start of an epoch; rates that change in every step also differ there, or at the last step.
    for step in (*range(0, made, steps_per_epoch), *range(made)[-1:]):
        if old(step) != new(step):
            raise InputError(
                f"cannot resume with another schedule: step {step + 1} was made at {old(step):.4g} of the learning "
                f"rate, the new one needs {new(step):.4g}; keep the old one, or start again from these weights with "
                "--init-from"
            )


def _require_same_images(then: TrainConfig, now: TrainConfig, *, made: int, steps_per_epoch: int) -> None:
    """Raise InputError unless the steps made so far belong to the same parts of the augmentation."""
    dense = now.data.transform.dense
    if dense is None:
        return
    old, new = ([min(step, made) for step in dense.bounds(each.total_steps(steps_per_epoch))] for each in (then, now))
    if old != new:
        raise InputError(
            f"cannot resume with another length: data.transform.dense has begun or ended within the {made} steps made, "
            "and would have done so elsewhere; keep the old length, or start again from these weights with --init-from"
        )


def _first_difference(old: object, new: object, *, path: str = "") -> str | None:
    if path in MAY_CHANGE:
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            found = _first_difference(old.get(name), new.get(name), path=f"{path}.{name}" if path else name)
            if found is not None:
                return found
        return None
    return None if old == new else f"{path} (it was {old!r}, now {new!r})"
