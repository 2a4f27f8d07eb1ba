"""The ratio of epochs to the same AP, from the saved logs.

The ratio is defined as in the paper: the length of a long schedule of DETR, divided by that of the shortest complete
schedule with which Conditional DETR reaches the same final AP. The headline is the ratio for DETR's longest schedule
with its best hyperparameters. Lengths between two trained schedules are interpolated by AP. Missing runs are left out.
"""

import csv
import typing
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.convergence import plan
from benchmarks.convergence.run import RESULTS, choose, final_ap, runs_of
from condetr.report.convergence import needed

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""AP levels during training at which both are compared by epochs."""

Measure = typing.Literal["AP", "AP50", "AP75"]

Curve = list[tuple[float, float]]
"""Epochs and AP, by increasing epochs."""


def crossing(curve: Curve, level: float) -> float | None:
    """Return the epochs at which a curve first reaches an AP, interpolated; None if it never does."""
    epochs, ap = (np.array(values, dtype=float) for values in zip(*curve, strict=True))
    found = needed(ap, epochs, level=level)
    # Before its first point, a curve is unknown.
    return None if found is None else max(found, curve[0][0])


def curve_of(run: plan.Run, *, measure: Measure = "AP") -> Curve:
    """Return the AP, or that at one IoU, after every evaluated epoch of a complete run."""
    with (RESULTS / run.name / "metrics.csv").open() as file:
        return [(float(row["epoch"]), float(row[measure])) for row in csv.DictReader(file) if row[measure]]


def is_complete(setting: plan.Setting) -> bool:
    """Return whether the search and at least one schedule of Conditional DETR exist."""
    search = plan.search(setting)
    return len(there(search)) == len(search) and bool(there(runs_of(setting, "schedules")))


def there(runs: Sequence[plan.Run]) -> list[plan.Run]:
    """Return the runs for which all seeds were trained."""
    found = [run for run in runs if (RESULTS / run.name / "results.json").exists()]
    seeds = Counter(replace(run, seed=0).name for run in found)
    wanted = Counter(replace(run, seed=0).name for run in runs)
    return [run for run in found if seeds[replace(run, seed=0).name] == wanted[replace(run, seed=0).name]]


def ratios_of(setting: plan.Setting) -> dict[str, Any]:
    """Return all results from the logs of a setting."""
    choice = choose(setting)
    detr, conditional = (there(runs_of(setting, stage)) for stage in ("long", "schedules"))
    return {
        "search": {run.name: final_ap(run) for run in plan.search(setting)},
        "tuning": {side: tuning._asdict() for side, tuning in choice.tuning.items()},
        "detr_loss": "focal" if choice.detr == "detr_focal" else "cross-entropy",
        "conditional_detr": dict(by_length(conditional)),
        "detr": [_schedule(epochs, detr=detr, conditional=conditional) for epochs in _lengths(detr)],
        "levels": {
            measure: [
                _level(level, slow=_longest(detr), fast=_longest(conditional), measure=measure) for level in LEVELS
            ]
            for measure in typing.get_args(Measure)
            if detr
        },
        "faster": _against(by_length(conditional), _aided(setting)),
        "faster_than_paper": _faster_than_paper(setting),
        "ablations": _ablations(setting),
    }


def _schedule(epochs: int, *, detr: Sequence[plan.Run], conditional: Sequence[plan.Run]) -> dict[str, Any]:
    """Return how much shorter Conditional DETR's schedule is than this one of DETR, to the same final AP."""
    final = {run.seed: final_ap(run) for run in detr if run.epochs == epochs}
    by_seed = [
        as_good(by_length([run for run in conditional if run.seed == seed]), epochs=epochs, ap=goal)["ratio"]
        for goal in final.values()
        for seed in plan.SEEDS
    ]
    return {
        **as_good(by_length(conditional), epochs=epochs, ap=mean(final.values())),
        "final_ap": final,
        "ratios_by_seeds": by_seed,
    }


def published_ratios(*, conditional_detr: dict[int, float], detr: dict[int, float]) -> list[dict[str, Any]]:
    """Return how much shorter Conditional DETR's schedule is than each of DETR's, from published AP."""
    curve = [(float(epochs), ap) for epochs, ap in conditional_detr.items()]
    return [as_good(curve, epochs=epochs, ap=ap) for epochs, ap in detr.items()]


def as_good(curve: Curve, *, epochs: float, ap: float) -> dict[str, Any]:
    """Return the complete schedule on a curve that reaches the final AP of a schedule with so many epochs."""
    epochs_needed = crossing(curve, ap)
    return {
        "epochs": epochs,
        "ap": ap,
        "epochs_needed": epochs_needed,
        "ratio": None if epochs_needed is None else epochs / epochs_needed,
        "ratio_is_a_lower_bound": epochs_needed == curve[0][0],
    }


def _lengths(runs: Sequence[plan.Run]) -> list[int]:
    return sorted({run.epochs for run in runs})


def _longest(runs: Sequence[plan.Run]) -> list[plan.Run]:
    return [run for run in runs if run.epochs == _lengths(runs)[-1]]


def by_length(runs: Sequence[plan.Run], *, ap: Callable[[plan.Run], float] = final_ap) -> Curve:
    """Return complete schedules as a curve: their length and their AP, as the mean over seeds."""
    return [(length, mean(ap(run) for run in runs if run.epochs == length)) for length in _lengths(runs)]


def _level(
    level: float, *, slow: Sequence[plan.Run], fast: Sequence[plan.Run], measure: Measure
) -> dict[str, float | None]:
    epochs = [[crossing(curve_of(run, measure=measure), level) for run in runs] for runs in (slow, fast)]
    detr, conditional = (None if None in side else mean(typing.cast(list[float], side)) for side in epochs)
    ratio = None if detr is None or conditional is None else detr / conditional
    return {"level": level, "detr": detr, "conditional_detr": conditional, "ratio": ratio}


def _aided(setting: plan.Setting) -> dict[str, Curve]:
    """Return complete schedules with each training aid."""
    runs = there(runs_of(setting, "faster"))
    curves = {variant: by_length([run for run in runs if run.variant == variant]) for variant in plan.FASTER}
    return {variant: curve for variant, curve in curves.items() if curve}


def _faster_than_paper(setting: plan.Setting) -> dict[str, dict[str, Any]]:
    """Return the ratios of a setting's schedules, with and without aids, to those with the paper's loss weights."""
    if setting != "weighted" or not is_complete("stride32"):
        return {}
    paper, weighted = (by_length(there(runs_of(each, "schedules"))) for each in ("stride32", setting))
    return _against(paper, {"plain": weighted, **_aided(setting)})


def _against(longer: Curve, curves: dict[str, Curve]) -> dict[str, dict[str, Any]]:
    """Return how much shorter schedules of each kind are than longer ones of another to the same AP."""
    return {
        kind: {
            "complete_schedules": dict(curve),
            "longer": [as_good(curve, epochs=epochs, ap=ap) for epochs, ap in longer if epochs > curve[0][0]],
        }
        for kind, curve in curves.items()
    }


def _ablations(setting: plan.Setting) -> dict[str, list[float]]:
    """Return the final AP of every seed of each row that was trained."""
    runs, seeds = runs_of(setting, "ablations"), len(plan.SEEDS)
    rows = {name: runs[seeds * row : seeds * (row + 1)] for row, name in enumerate(plan.ABLATIONS)}
    return {name: [final_ap(run) for run in row] for name, row in rows.items() if len(there(row)) == seeds}


def headline(schedules: Sequence[dict[str, Any]]) -> float | None:
    """Return the ratio for the longest schedule that the faster detector was trained long enough to equal.

    Of several equally long ones, the one with the highest AP is used, and of equally good ones, the largest ratio.
    """
    equalled = [each for each in schedules if each["ratio"] is not None]
    longest = max(equalled, key=lambda each: (each["epochs"], each["ap"], each["ratio"]), default=None)
    return None if longest is None else float(longest["ratio"])
