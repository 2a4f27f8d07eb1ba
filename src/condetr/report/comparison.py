"""Runs side by side: how long each took to reach an AP, in one figure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from condetr.config import read_yaml
from condetr.errors import InputError
from condetr.inference.drawing import PALETTE
from condetr.metrics.matches import MATCHES, Matches
from condetr.report.convergence import UNITS, Comparison, Group, Run, Unit, compare
from condetr.runs.contents import NUMERICALLY_NEUTRAL, read_history
from condetr.runs.folder import RunFolder

INK, LINE = "#3a4149", "#dfe3e8"


def compare_runs(paths: Sequence[Path | str], *, levels: Sequence[float] | None = None) -> Comparison:
    """Compare how long trainings took to reach AP levels (from 0 to 1; by default round ones).

    A path is a run folder, or the log.txt of an official DETR-family training, or its folder. Runs that differ only in
    the seed form a group. Raises InputError if a run cannot be read or was never evaluated.
    """
    return compare(read_runs([Path(path) for path in paths]), levels=levels)


def draw_comparison(comparison: Comparison) -> Figure:
    """Draw AP against epochs, steps and time, as far as every run recorded them; a colour for each group."""
    return draw_groups(comparison.groups)


def draw_groups(groups: Sequence[Group]) -> Figure:
    """Draw the runs of each group in a colour."""
    units = [unit for unit in UNITS if all(unit in group.units for group in groups)]
    figure = Figure(figsize=(1.2 + 4.4 * max(len(units), 1), 3.6), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(units), sharey=True, squeeze=False)[0]
    for axes, unit in zip(panels, units, strict=True):
        _draw(axes, groups, unit=unit)
    panels[0].set_ylabel("AP", color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=max(1, len(units)), frameon=False, fontsize=9)
    return figure


def _draw(axes: Axes, groups: Sequence[Group], *, unit: Unit) -> None:
    longest = max(float(run.progress[unit][-1]) for group in groups for run in group.runs)
    scale, label = _scale(unit, longest=longest)
    for number, group in enumerate(groups):
        for index, run in enumerate(group.runs):
            axes.plot(
                [0, *(run.progress[unit] / scale)],
                [0, *run.ap],
                color=PALETTE[number % len(PALETTE)],
                label=group.name if index == 0 else None,
                linewidth=1.8 if len(group.runs) == 1 else 1.2,
                marker="o" if len(run.ap) <= 25 else "",
                markersize=3.2,
                alpha=1 if len(group.runs) == 1 else 0.8,
            )
    axes.set_xlabel(label, color=INK)
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.grid(color=LINE, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


def _scale(unit: Unit, *, longest: float) -> tuple[float, str]:
    """Return the divisor of a unit, and the name of the resulting unit."""
    if unit != "seconds":
        return 1.0, unit
    if longest < 300:
        return 1.0, "seconds"
    return (60.0, "minutes") if longest < 3 * 3600 else (3600.0, "hours")


COLUMNS: dict[str, Unit] = {"epoch": "epochs", "step": "steps", "seconds": "seconds"}
LOG = "log.txt"
FACTS = ("train_images", "val_images")


def read_runs(paths: Sequence[Path], *, evaluation: str | None = None) -> list[Run]:
    """Read run folders, and the log.txt of official trainings or folders that hold one.

    With `evaluation`, the AP of a run is that of RUN/EVALUATION/matches.npz, at its end.
    Runs are named after their folders, or by their given paths if two folders have the same name. Raises InputError for
    paths that are neither, are damaged, or were never evaluated.
    """
    folders = [(path.parent if path.is_file() else path).resolve().name for path in paths]
    unique = len(set(folders)) == len(folders)
    runs = [_read(path, name=folder if unique else str(path)) for path, folder in zip(paths, folders, strict=True)]
    if evaluation is None:
        return runs
    return [_evaluated(run, path / evaluation / MATCHES) for run, path in zip(runs, paths, strict=True)]


def _evaluated(run: Run, file: Path) -> Run:
    matches = Matches.load(file)
    ends = {unit: progress[-1:] for unit, progress in run.progress.items()}
    return replace(run, ap=np.array([matches.ap()]), progress=ends, matches=matches)


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
        is_complete=run.results.is_file(),
    )


def _require_some(was_evaluated: Bool[np.ndarray, " N"], *, path: Path) -> None:
    if not was_evaluated.any():
        raise InputError(f"{path} holds no AP: the run was never evaluated; give a run that was")


def _read_settings(run: RunFolder) -> Mapping[str, Any] | None:
    if not run.config.is_file():
        return None
    try:
        config = read_yaml(run.config.read_bytes())
        results = json.loads(run.results.read_text(encoding="utf-8")) if run.results.is_file() else {}
        facts = {name: results[name] for name in FACTS if name in results}
        settings = {path: value for path, value in _flat(config).items() if path not in NUMERICALLY_NEUTRAL}
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

    If a training was resumed from an earlier checkpoint, the repeated epochs replace the old ones. Epochs that start
    again at the first one belong to another training, because the official code appends to an existing log.
    """
    ap_of: dict[int, float | None] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line) if line.strip() else {}
            if not {"epoch", "test_coco_eval_bbox"} & {*row}:
                continue
            # Epochs are counted from 0 there: the first line is about one completed epoch.
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
