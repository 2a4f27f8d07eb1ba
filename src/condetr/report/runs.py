"""Read trainings for comparison: our run folders, and the log.txt of the official DETR family."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from condetr.config import read_yaml
from condetr.engine.influence import WITHOUT_INFLUENCE
from condetr.engine.run_folder import RunFolder
from condetr.errors import InputError
from condetr.explain.compare import Run, Unit
from condetr.report.contents import read_history

COLUMNS: dict[str, Unit] = {"epoch": "epochs", "step": "steps", "seconds": "seconds"}
LOG = "log.txt"
FACTS = ("train_images", "val_images")


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders, and the log.txt of official trainings or folders that hold one.

    Runs are named after their folders, or as they were given where that would make two the same. Raises InputError for
    what is neither, is damaged, or was never evaluated.
    """
    folders = [(path.parent if path.is_file() else path).resolve().name for path in paths]
    unique = len(set(folders)) == len(folders)
    return [_read(path, name=folder if unique else str(path)) for path, folder in zip(paths, folders, strict=True)]


def _read(path: Path, *, name: str) -> Run:
    if path.is_file():
        return _read_log(path, name=name)
    if RunFolder(path).metrics.is_file():
        return _read_folder(RunFolder(path), name=name)
    if (path / LOG).is_file():
        return _read_log(path / LOG, name=name)
    what = f"holds neither {RunFolder(path).metrics.name} nor {LOG}" if path.is_dir() else "does not exist"
    raise InputError(f"{path} {what}; give a run folder or the {LOG} of an official training")


def _read_folder(run: RunFolder, *, name: str) -> Run:
    history = {name: np.array(column) for name, column in (read_history(run) or {}).items()}
    ap = history.get("AP", np.zeros(0))
    was_evaluated = np.isfinite(ap)
    _require_some(was_evaluated, path=run.path)
    return Run(
        name=name,
        ap=ap[was_evaluated],
        progress={
            unit: history[column][was_evaluated]
            for column, unit in COLUMNS.items()
            if column in history and np.isfinite(history[column][was_evaluated]).all()
        },
        settings=_read_settings(run),
    )


def _require_some(was_evaluated: Bool[np.ndarray, " N"], *, path: Path) -> None:
    if not was_evaluated.any():
        raise InputError(f"{path} holds no AP: the run was never evaluated; take a run that was")


def _read_settings(run: RunFolder) -> Mapping[str, Any] | None:
    if not run.config.is_file():
        return None
    try:
        config = read_yaml(run.config.read_bytes())
        results = json.loads(run.results.read_text(encoding="utf-8")) if run.results.is_file() else {}
        facts = {name: results[name] for name in FACTS if name in results}
        settings = {path: value for path, value in _flat(config).items() if path not in WITHOUT_INFLUENCE}
        return {**settings, **facts}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"the settings in {run.path} cannot be read ({' '.join(str(error).split())})") from None


def _flat(mapping: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their paths."""
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        flat |= _flat(value, prefix=f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _read_log(path: Path, *, name: str) -> Run:
    """Read a JSON object from each line, about an epoch.

    What followed an epoch that was run again from a checkpoint does not count; an epoch that is back at the first one
    is of another training, as official code appends to the log that it finds.
    """
    ap_of: dict[int, float | None] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line) if line.strip() else {}
            if not {"epoch", "test_coco_eval_bbox"} & {*row}:
                continue
            # Epochs count from 0 there: the first line is about one whole epoch.
            epoch = int(row["epoch"]) + 1
            ap = float(row["test_coco_eval_bbox"][0]) if "test_coco_eval_bbox" in row else None
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path} is no training log of the DETR family: line {number}: {reason}") from None
        if ap_of and epoch <= min(ap_of):
            raise InputError(
                f"{path} holds several trainings, one after the other: line {number} is back at epoch {epoch - 1}; "
                "make a file of each"
            )
        ap_of = {other: known for other, known in ap_of.items() if other < epoch} | {epoch: ap}
    evaluated = {epoch: ap for epoch, ap in ap_of.items() if ap is not None}
    epochs: Float[np.ndarray, " N"] = np.array([*evaluated], dtype=float)
    _require_some(np.isfinite(epochs), path=path)
    return Run(name=name, ap=np.array([*evaluated.values()]), progress={"epochs": epochs})
