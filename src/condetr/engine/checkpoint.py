"""Where a training stands, as a file: weights, optimizer, average, position, history and best score."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from condetr.engine.ema import Ema
from condetr.errors import InputError
from condetr.inference.atomic import replaced_file
from condetr.labels import LabelMap

Row = dict[str, float | int | None]
"""One epoch's line of metrics.csv."""


@dataclass(kw_only=True)
class Progress:
    """How far a training is, apart from tensors."""

    epoch: int = 0
    """Complete epochs."""
    step: int = 0
    """Optimizer steps made."""
    images: int = 0
    """Images seen, over all processes."""
    seconds: float = 0.0
    """Time spent, evaluations included."""
    skipped_steps: int = 0
    """Steps left out because the gradient was not finite."""
    best_ap: float = -1.0
    best_epoch: int = 0
    evaluations_since_best: int = 0
    rows: list[Row] = field(default_factory=list)


def save_checkpoint(
    path: Path,
    *,
    detector: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Ema | None,
    progress: Progress,
    label_map: LabelMap,
    settings: dict[str, Any],
) -> None:
    """Write a checkpoint; an older one of the same name stays whole until the new one is complete."""
    state = {
        "detector": detector.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": None if ema is None else ema.state_dict(),
        "progress": asdict(progress),
        "label_map": label_map.to_list(),
        "settings": settings,
    }
    with replaced_file(path) as draft:
        torch.save(state, draft)


def restore_checkpoint(
    path: Path,
    *,
    detector: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Ema | None,
    label_map: LabelMap,
    settings: dict[str, Any],
) -> Progress:
    """Put a training back where `path` has it; raises InputError if it is another data set's or other settings'."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError, ValueError) as error:
        raise InputError(f"cannot resume from {path}: {str(error).splitlines()[0]}") from None
    if state["label_map"] != label_map.to_list():
        known = ", ".join(row["name"] for row in state["label_map"])
        raise InputError(f"cannot resume: {path} was trained on {known}, the data has {', '.join(label_map.names)}")
    changed = _first_difference(state["settings"], settings)
    if changed is not None:
        raise InputError(f"cannot resume with another setting: {changed}; keep it, or start anew with --out")
    detector.load_state_dict(state["detector"])
    optimizer.load_state_dict(state["optimizer"])
    if ema is not None:
        ema.load_state_dict(state["ema"])
    return Progress(**state["progress"])


def _first_difference(old: object, new: object, *, path: str = "") -> str | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            found = _first_difference(old.get(name), new.get(name), path=f"{path}.{name}" if path else name)
            if found is not None:
                return found
        return None
    return None if old == new else f"{path} ({old!r} then, {new!r} now)"
