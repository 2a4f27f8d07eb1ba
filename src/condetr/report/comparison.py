"""Runs side by side: who needed how much to reach an AP, in one picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from condetr.explain.compare import UNITS, Comparison, Unit, compare
from condetr.inference.drawing import PALETTE
from condetr.report.runs import read_runs

INK, LINE = "#3a4149", "#dfe3e8"


def compare_runs(paths: Sequence[Path | str], *, levels: Sequence[float] | None = None) -> Comparison:
    """Compare trainings by what they needed to reach AP levels (0 to 1; round ones if none are named).

    A path is a run folder, or the log.txt of an official DETR-family training, or its folder. Runs that are equal but
    for the seed form a group. Raises InputError if a run cannot be read or was never evaluated.
    """
    return compare(read_runs([Path(path) for path in paths]), levels=levels)


def draw_comparison(comparison: Comparison) -> Figure:
    """Draw AP against epochs, steps and time, as far as every run recorded them; a colour for each group."""
    units = [unit for unit in UNITS if all(unit in group.units for group in comparison.groups)]
    figure = Figure(figsize=(1.2 + 4.4 * max(len(units), 1), 3.6), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(units), sharey=True, squeeze=False)[0]
    for axes, unit in zip(panels, units, strict=True):
        _draw(axes, comparison, unit=unit)
    panels[0].set_ylabel("AP, %", color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=max(1, len(units)), frameon=False, fontsize=9)
    return figure


def _draw(axes: Axes, comparison: Comparison, *, unit: Unit) -> None:
    longest = max(float(run.progress[unit][-1]) for group in comparison.groups for run in group.runs)
    scale, label = _scale(unit, longest=longest)
    for number, group in enumerate(comparison.groups):
        for index, run in enumerate(group.runs):
            axes.plot(
                [0, *(run.progress[unit] / scale)],
                [0, *(100 * run.ap)],
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
    """Return by what to divide, and the name of what results."""
    if unit != "seconds":
        return 1.0, unit
    if longest < 300:
        return 1.0, "seconds"
    return (60.0, "minutes") if longest < 3 * 3600 else (3600.0, "hours")
