"""Turn the kept logs into the ratios, the tables and the picture: `python -m benchmarks.convergence.summarise`.

The ratio is the paper's: a long schedule of DETR, over the shortest complete schedule with which Conditional DETR is as
good as DETR is at its end; the headline is that of DETR's longest. Lengths between two schedules that were trained are
interpolated by AP. Runs that are not there yet are left out.
"""

import csv
import json
import typing
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from rich.console import Console

from benchmarks.convergence import plan
from benchmarks.convergence.run import RESULTS, choose, final_ap, runs_of
from condetr.explain.compare import needed

SUMMARY = RESULTS.parent / "summary.json"
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""AP on the way, at which both are compared epoch by epoch."""

TITLES: dict[str, str] = {
    "stride32": "stride 32: 64 cells",
    "dc5": "DC5: 256 cells",
    "pretrained": "stride 32, pretrained backbone",
    "digits": "stride 32, handwritten digits",
}

AIDS = {"groups": "groups of queries", "denoising": "denoising queries", "both": "groups and denoising queries"}

TICKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Epochs beneath the picture."""

Measure = typing.Literal["AP", "AP50", "AP75"]

Curve = list[tuple[float, float]]
"""Epochs and AP, growing epochs."""


def main() -> None:
    """Write convergence.json, convergence.md, convergence.png and this benchmark's part of summary.json."""
    found = {setting: _setting(setting) for setting in typing.get_args(plan.Setting) if _is_complete(setting)}
    published = {backbone: _published(**sides) for backbone, sides in plan.PUBLISHED.items()}
    (RESULTS / "convergence.json").write_text(json.dumps({**found, "published": published}, indent=2) + "\n")
    table = "\n".join(
        line
        for lines in (_published_section(published), *(_section(*each) for each in found.items()))
        for line in lines
    )
    (RESULTS / "convergence.md").write_text(table + "\n")
    _picture(found, published, RESULTS / "convergence.png")
    _summarise(found)
    Console().print(table, highlight=False)


def crossing(curve: Curve, level: float) -> float | None:
    """Return the epochs at which a curve first reaches an AP, interpolated; None if it never does."""
    epochs, ap = (np.array(values) for values in zip(*curve, strict=True))
    found = needed(ap, epochs, level=level)
    # Before its first point nothing is known about a curve.
    return None if found is None else max(found, curve[0][0])


def curve_of(run: plan.Run, *, measure: Measure = "AP") -> Curve:
    """Return the AP, or that at one IoU, after every epoch of a complete run."""
    with (RESULTS / run.name / "metrics.csv").open() as file:
        return [(float(row["epoch"]), float(row[measure])) for row in csv.DictReader(file)]


def _is_complete(setting: plan.Setting) -> bool:
    """Return whether a search and at least one schedule of each side are there."""
    return len(_there(plan.search(setting))) == len(plan.search(setting)) and all(
        _there(runs_of(setting, stage)) for stage in ("long", "schedules")
    )


def _there(runs: Sequence[plan.Run]) -> list[plan.Run]:
    """Return the runs of which every seed was trained."""
    found = [run for run in runs if (RESULTS / run.name / "results.json").exists()]
    seeds = Counter(replace(run, seed=0).name for run in found)
    wanted = Counter(replace(run, seed=0).name for run in runs)
    return [run for run in found if seeds[replace(run, seed=0).name] == wanted[replace(run, seed=0).name]]


def _setting(setting: plan.Setting) -> dict[str, Any]:
    choice = choose(setting)
    detr, conditional = (_there(runs_of(setting, stage)) for stage in ("long", "schedules"))
    return {
        "search": {run.name: final_ap(run) for run in plan.search(setting)},
        "lr": choice.lr,
        "detr_loss": "focal" if choice.detr == "detr_focal" else "cross-entropy",
        "conditional_detr": dict(_by_length(conditional)),
        "detr": [_schedule(epochs, detr=detr, conditional=conditional) for epochs in _lengths(detr)],
        "levels": {
            measure: [
                _level(level, slow=_longest(detr), fast=_longest(conditional), measure=measure) for level in LEVELS
            ]
            for measure in typing.get_args(Measure)
        },
        "faster": _faster(setting, plain=conditional),
        "ablations": _ablations(setting),
    }


def _schedule(epochs: int, *, detr: Sequence[plan.Run], conditional: Sequence[plan.Run]) -> dict[str, Any]:
    """Return how much shorter Conditional DETR's schedule is than this one of DETR, to the same final AP."""
    final = {run.seed: final_ap(run) for run in detr if run.epochs == epochs}
    by_seed = [
        _as_good(_by_length([run for run in conditional if run.seed == seed]), epochs=epochs, ap=goal)["ratio"]
        for goal in final.values()
        for seed in plan.SEEDS
    ]
    return {
        **_as_good(_by_length(conditional), epochs=epochs, ap=mean(final.values())),
        "final_ap": final,
        "ratios_by_seeds": [ratio for ratio in by_seed if ratio is not None],
    }


def _published(*, conditional_detr: dict[int, float], detr: dict[int, float]) -> list[dict[str, Any]]:
    """Return the same of published schedules."""
    curve = [(float(epochs), ap / 100) for epochs, ap in conditional_detr.items()]
    return [_as_good(curve, epochs=epochs, ap=ap / 100) for epochs, ap in detr.items()]


def _as_good(curve: Curve, *, epochs: float, ap: float) -> dict[str, Any]:
    """Return which of the complete schedules on a curve is as good as one of so many epochs that ended in this AP."""
    needed = crossing(curve, ap)
    return {
        "epochs": epochs,
        "ap": ap,
        "epochs_needed": needed,
        "ratio": None if needed is None else epochs / needed,
        "ratio_is_a_lower_bound": needed == curve[0][0],
    }


def _lengths(runs: Sequence[plan.Run]) -> list[int]:
    return sorted({run.epochs for run in runs})


def _longest(runs: Sequence[plan.Run]) -> list[plan.Run]:
    return [run for run in runs if run.epochs == _lengths(runs)[-1]]


def _by_length(runs: Sequence[plan.Run]) -> Curve:
    """Return complete schedules as a curve: their length and their final AP, a mean over seeds."""
    return [(length, mean(final_ap(run) for run in runs if run.epochs == length)) for length in _lengths(runs)]


def _level(
    level: float, *, slow: Sequence[plan.Run], fast: Sequence[plan.Run], measure: Measure
) -> dict[str, float | None]:
    epochs = [[crossing(curve_of(run, measure=measure), level) for run in runs] for runs in (slow, fast)]
    detr, conditional = (None if None in side else mean(typing.cast(list[float], side)) for side in epochs)
    ratio = None if detr is None or conditional is None else detr / conditional
    return {"level": level, "detr": detr, "conditional_detr": conditional, "ratio": ratio}


def _faster(setting: plan.Setting, *, plain: Sequence[plan.Run]) -> dict[str, dict[str, Any]]:
    """Return, for each aid, how much shorter its schedule is than each that plain Conditional DETR was trained with."""
    runs = _there(runs_of(setting, "faster"))
    curves = {variant: _by_length([run for run in runs if run.variant == variant]) for variant in plan.FASTER}
    return {
        variant: {
            "complete_schedules": dict(curve),
            "plain": [_as_good(curve, epochs=epochs, ap=ap) for epochs, ap in _by_length(plain)],
        }
        for variant, curve in curves.items()
        if curve
    }


def _ablations(setting: plan.Setting) -> dict[str, list[float]]:
    """Return the final AP of every seed of each row that was trained."""
    runs, seeds = runs_of(setting, "ablations"), len(plan.SEEDS)
    rows = {name: runs[seeds * row : seeds * (row + 1)] for row, name in enumerate(plan.ABLATIONS)}
    return {name: [final_ap(run) for run in row] for name, row in rows.items() if len(_there(row)) == seeds}


def _published_section(published: dict[str, list[dict[str, Any]]]) -> list[str]:
    return [
        "## COCO, from published AP",
        "",
        "| DETR, complete schedule of | AP | Conditional DETR needs | ratio |",
        "|---|---|---|---|",
        *(
            _row([f"{backbone}, {each['epochs']} epochs", *_cells(each)])
            for backbone, schedules in published.items()
            for each in schedules
        ),
        "",
    ]


def _section(setting: str, values: dict[str, Any]) -> list[str]:
    return [
        f"## {TITLES[setting]}",
        "",
        f"Two seeds; DETR with {values['detr_loss']}.",
        "",
        "| Conditional DETR, complete schedule of | AP |",
        "|---|---|",
        *(f"| {epochs:g} epochs | {100 * ap:.1f} |" for epochs, ap in values["conditional_detr"].items()),
        "",
        "| DETR, complete schedule of | AP | Conditional DETR needs | ratio | ratios between single seeds |",
        "|---|---|---|---|---|",
        *(_schedule_row(schedule) for schedule in values["detr"]),
        "",
        "| on the way to | AP: DETR | Conditional DETR | ratio | AP50: ratio | AP75: ratio |",
        "|---|---|---|---|---|---|",
        *(
            _level_row(measures, epochs=values["detr"][-1]["epochs"])
            for measures in zip(*values["levels"].values(), strict=True)
        ),
        "",
        *_faster_lines(values["faster"]),
        *_ablation_lines(values["ablations"]),
    ]


def _schedule_row(schedule: dict[str, Any]) -> str:
    single = schedule["ratios_by_seeds"]
    between = f"{min(single):.1f} to {max(single):.1f}" if single else "-"
    return _row([f"{schedule['epochs']} epochs", *_cells(schedule), between])


def _faster_lines(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for name, aid in found.items():
        schedules = ", ".join(f"{epochs:g}: {100 * ap:.1f}" for epochs, ap in aid["complete_schedules"].items())
        lines += [
            f"With {AIDS[name]}, AP after complete schedules of so many epochs: {schedules}.",
            "",
            "| plain, complete schedule of | AP | with it | ratio |",
            "|---|---|---|---|",
            *(_row([f"{each['epochs']:g} epochs", *_cells(each)]) for each in aid["plain"]),
            "",
        ]
    return lines


def _cells(schedule: dict[str, Any]) -> list[str]:
    """Return the AP of a schedule, the epochs of the one that is as good, and the ratio of both."""
    ap, is_bound = f"{100 * schedule['ap']:.1f}", schedule["ratio_is_a_lower_bound"]
    if schedule["ratio"] is None:
        return [ap, "more than was trained", "-"]
    needed, ratio = f"{schedule['epochs_needed']:.1f}", f"{schedule['ratio']:.1f}"
    return [ap, f"{'at most ' * is_bound}{needed}", f"**{'at least ' * is_bound}{ratio}**"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ablation_lines(found: dict[str, list[float]]) -> list[str]:
    if len(found) < 2:  # one of them is trained for its own sake
        return []
    rows = [
        f"| {name} | {100 * mean(scores):.1f} | {', '.join(f'{100 * score:.1f}' for score in scores)} "
        f"| {plan.PAPER[name]} |"
        for name, scores in found.items()
    ]
    return [f"| ablation, {plan.ABLATION_EPOCHS} epochs | AP | by seed | paper's AP |", "|---|---|---|---|", *rows, ""]


def _level_row(measures: Sequence[dict[str, float | None]], *, epochs: int) -> str:
    """Return one level as AP, AP50 and AP75 reach it."""
    ap, level = measures[0], measures[0]["level"]
    assert level is not None
    cells = ["never" if needed is None else f"{needed:.1f}" for needed in (ap["detr"], ap["conditional_detr"])]
    return _row([f"{100 * level:.0f}", *cells, *(_level_ratio(each, epochs=epochs) for each in measures)])


def _level_ratio(values: dict[str, float | None], *, epochs: int) -> str:
    if values["ratio"] is not None:
        return f"{values['ratio']:.1f}"
    conditional = values["conditional_detr"]
    return "-" if conditional is None else f"more than {epochs / conditional:.1f}"


def _picture(found: dict[str, Any], published: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw AP against epochs for each setting, and the ratio against the length of DETR's schedule."""
    columns = len(found) + 1
    figure, axes = plt.subplots(1, columns, figsize=(5 * columns, 4), squeeze=False, layout="constrained")
    for axis, setting in zip(axes[0], found, strict=False):
        for stage, colour, label in (("long", "tab:gray", "DETR"), ("schedules", "tab:red", "Conditional DETR")):
            for index, run in enumerate(_there(runs_of(typing.cast(plan.Setting, setting), stage))):
                epochs, ap = zip(*curve_of(run), strict=True)
                axis.plot(epochs, [100 * value for value in ap], color=colour, label=None if index else label, lw=1.2)
                axis.plot(epochs[-1], 100 * ap[-1], "o", color=colour, ms=4)
        _label(axis, ylabel="AP", title=TITLES[setting])
    ratios = {TITLES[setting]: values["detr"] for setting, values in found.items()}
    ratios |= {f"COCO, {backbone}, published": schedules for backbone, schedules in published.items()}
    for name, schedules in ratios.items():
        shown = [(each["epochs"], each["ratio"]) for each in schedules if each["ratio"] is not None]
        if shown:
            axes[0][-1].plot(*zip(*shown, strict=True), "o-", label=name, ms=4, lw=1.2)
    _label(axes[0][-1], ylabel="times as many as Conditional DETR", title="complete schedules of DETR")
    figure.savefig(path, dpi=150)


def _label(axis: Axes, *, ylabel: str, title: str) -> None:
    axis.set(xscale="log", xlabel="epochs", ylabel=ylabel, title=title)
    ticks = [tick for tick in TICKS if tick <= axis.get_xlim()[1]]
    axis.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)


def _summarise(found: dict[str, Any]) -> None:
    """Put the headline ratios into summary.json, beside those of other benchmarks."""
    summary = json.loads(SUMMARY.read_text()) if SUMMARY.exists() else {}
    ratios = {setting: _headline(values["detr"]) for setting, values in found.items()}
    aided = [each for values in found.values() for aid in values["faster"].values() for each in aid["plain"]]
    summary["convergence"] = {**ratios, "faster_than_paper": _headline(aided)}
    SUMMARY.write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n")


def _headline(schedules: Sequence[dict[str, Any]]) -> float | None:
    """Return the largest ratio to the longest schedule that the faster side was trained long enough to equal."""
    ratios = [(each["epochs"], each["ratio"]) for each in schedules if each["ratio"] is not None]
    return max(ratios)[1] if ratios else None


if __name__ == "__main__":
    main()
