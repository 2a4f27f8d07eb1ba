"""Runs of two sides: from run folders to the curves that are compared, and the result in words and plain data."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from condetr.errors import InputError
from condetr.metrics.matches import Matches
from condetr.report.comparison import read_runs
from condetr.report.convergence import Difference as SettingDifference
from condetr.report.convergence import Group, Run, Unit, differences
from condetr.report.equal_ap import DRAWS, Bounds, EqualAp, Row, Side, compare_sides
from condetr.words import ap_text

LENGTH = ("epochs", "schedule", "max_steps", "minutes", "evaluate_every", "seed")
"""Settings in which the runs of a side may differ, with all below them."""
FEWEST_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class Sides:
    """One side beside another."""

    groups: tuple[Group, Group]
    seeds: tuple[int, int]
    is_of_schedules: bool
    """True if AP is that at the end of complete schedules, otherwise that on the way."""
    result: EqualAp
    differences: tuple[SettingDifference, ...]
    warnings: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The interval's worse end at the AP that the other side reaches last, or at the highest that was given."""
        row, (name, other) = self.result.rows[-1], (group.name for group in self.groups)
        estimate, interval = row.ratios["epochs"]
        what = f"AP {ap_text(row.ap)}" + (f", which {other} has after {row.after:g} epochs" if row.after else "")
        told = f"to {what}; estimate {bounds_text(estimate)}"
        if interval is None:
            return f"{name} over {other}: no interval, {told}"
        if interval.low > 1:
            return f"{name} needs at least {_number(interval.low)} times fewer epochs than {other} (95 %) {told}"
        if interval.high < 1:
            return f"{name} needs at least {_number(1 / interval.high)} times as many epochs as {other} (95 %) {told}"
        return f"neither {name} nor {other} is shown to need fewer epochs (95 %: {bounds_text(interval)}) {told}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; null stands for a bound that is not known."""
        return {
            "headline": self.headline,
            "sides": [
                {"name": group.name, "runs": [run.name for run in group.runs], "seeds": seeds}
                for group, seeds in zip(self.groups, self.seeds, strict=True)
            ],
            "complete_schedules": self.is_of_schedules,
            "rows": [_row_dict(row) for row in self.result.rows],
            "AP_differences": [
                {**each._asdict(), "interval": _bounds_list(each.interval)} for each in self.result.differences
            ],
            "differences": [difference._asdict() for difference in self.differences],
            "warnings": list(self.warnings),
        }


def compare_two_sides(
    paths: Sequence[Path | str],
    against: Sequence[Path | str],
    *,
    levels: Sequence[float] = (),
    evaluation: str | None = None,
    draws: int = DRAWS,
) -> Sides:
    """Compare how long the runs of one side and those of another train to the same AP, with a 95 % interval.

    The runs of a side differ in their seed and in the length of their schedule, and in nothing else. With several
    lengths, AP is that at the end of each complete schedule; with one, that of every evaluation on the way. With
    `evaluation`, it is computed from RUN/EVALUATION/matches.npz, and images are drawn as well as seeds. Without
    `levels`, the AP that the other side has at each of its points is compared. Raises InputError for runs that cannot
    be read, that are not complete, or that do not belong to one side.
    """
    beyond = [level for level in levels if not 0 < level <= 1]
    if beyond:
        raise InputError(f"an AP level must be above 0 and at most 1, got {beyond[0]:g}")
    runs = read_runs([Path(path) for path in (*paths, *against)], evaluation=evaluation)
    pair = [runs[: len(paths)], runs[len(paths) :]]
    is_of_schedules = evaluation is not None or any(len({_length(run) for run in side}) > 1 for side in pair)
    names = _names(*pair)
    side, other = (
        side_of(each, name=name, is_of_schedules=is_of_schedules) for each, name in zip(pair, names, strict=True)
    )
    _require_same_images(side, other)
    groups = [Group(name=name, runs=tuple(sorted(each, key=_length))) for name, each in zip(names, pair, strict=True)]
    return Sides(
        groups=(groups[0], groups[1]),
        seeds=(len(side.ap), len(other.ap)),
        is_of_schedules=is_of_schedules,
        result=compare_sides(side, other, levels=sorted(levels), draws=draws),
        differences=tuple(each for each in differences(groups) if not _is_of_length(each.setting)),
        warnings=tuple(warnings_of(side, other)),
    )


def side_of(runs: Sequence[Run], *, name: str, is_of_schedules: bool) -> Side:
    """Return the curve of each seed; raises InputError for runs that do not belong together."""
    _require_one_kind(runs)
    points: dict[object, dict[float, _Point]] = defaultdict(dict)
    for run in runs:
        if is_of_schedules and not run.is_complete:
            raise InputError(f"{run.name} has not ended: go on with it, or leave it out")
        of_seed = points[(run.settings or {}).get("seed", run.name)]
        for length, point in _points(run, is_of_schedules=is_of_schedules):
            if length in of_seed:
                raise InputError(
                    f"{of_seed[length].run} and {run.name} have the same seed and the same {length:g} epochs: give one "
                    "of them"
                )
            of_seed[length] = point
    lengths = sorted({length for of_seed in points.values() for length in of_seed})
    for seed, of_seed in points.items():
        missing = [length for length in lengths if length not in of_seed]
        if missing:
            raise InputError(
                f"{name} lacks {missing[0]:g} epochs for seed {seed}: give that run, too, or leave this length out"
            )
    table = [[of_seed[length] for length in lengths] for of_seed in points.values()]
    seconds = np.array([[point.seconds for point in row] for row in table])
    progress: dict[Unit, np.ndarray] = {"epochs": np.array(lengths)}
    if np.isfinite(seconds).all():
        progress["seconds"] = seconds.mean(axis=0)
    matches = tuple(tuple(point.matches for point in row if point.matches is not None) for row in table)
    return Side(
        name=name,
        progress=progress,
        ap=np.array([[point.ap for point in row] for row in table]),
        matches=matches if matches[0] else (),
    )


class _Point(NamedTuple):
    run: str
    ap: float
    seconds: float
    matches: Matches | None


def _points(run: Run, *, is_of_schedules: bool) -> list[tuple[float, _Point]]:
    seconds = run.progress.get("seconds", np.full(len(run.ap), np.nan))
    rows = zip(run.progress["epochs"].tolist(), run.ap.tolist(), seconds.tolist(), strict=True)
    points = [(epochs, _Point(run.name, ap, time, run.matches)) for epochs, ap, time in rows]
    return points[-1:] if is_of_schedules else points


def warnings_of(side: Side, other: Side) -> list[str]:
    """Return what a reader must know of the interval."""
    seeds = [len(each.ap) for each in (side, other)]
    told = " and ".join(map(str, seeds)) if seeds[0] != seeds[1] else str(seeds[0])
    has_images = bool(side.matches and other.matches)
    if min(seeds) < 2:
        what = "the interval is over images alone" if has_images else "so there is no interval"
        return [f"{told} seed a side: what another seed changes is unknown; {what}"]
    few = min(seeds) < FEWEST_SEEDS
    return [
        *([f"fewer than {FEWEST_SEEDS} seeds a side ({told}): the interval is too narrow"] if few else []),
        *([] if has_images else ["the interval is over seeds alone, not over images (--evaluation)"]),
    ]


def bounds_text(bounds: Bounds) -> str:
    """Return a number or what is known of it, such as "8.1", "7.5 to 9.0", "more than 4.0" or "unknown"."""
    low, high = bounds
    if isinf(high):
        return f"more than {_number(low)}" if low > 0 else "unknown"
    if low == 0:
        return f"less than {_number(high)}"
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _length(run: Run) -> float:
    return float(run.progress["epochs"][-1])


def _names(*sides: Sequence[Run]) -> list[str]:
    """Return the kinds of detector, or the names of the first runs where these are the same or unknown."""
    kinds = [(runs[0].settings or {}).get("detector.kind") for runs in sides]
    if None in kinds or len(set(kinds)) < len(kinds):
        return [runs[0].name for runs in sides]
    return [str(kind) for kind in kinds]


def _is_of_length(path: str) -> bool:
    return path.split(".")[0] in LENGTH


def _require_one_kind(runs: Sequence[Run]) -> None:
    first = _kind(runs[0])
    for run in runs[1:]:
        other = _kind(run)
        differing = next((path for path in {**first, **other} if first.get(path) != other.get(path)), None)
        if differing is not None:
            raise InputError(
                f"{runs[0].name} and {run.name} differ in {differing}: the runs of a side may differ only in their "
                "seed and their length"
            )


def _kind(run: Run) -> Mapping[str, Any]:
    return {path: value for path, value in (run.settings or {}).items() if not _is_of_length(path)}


def _require_same_images(*sides: Side) -> None:
    every = [matches for side in sides for of_seed in side.matches for matches in of_seed]
    for matches in every[1:]:
        same = (np.array_equal(getattr(matches, name), getattr(every[0], name)) for name in ("image_ids", "objects"))
        if not all(same):
            raise InputError("the runs were evaluated on different images or objects: evaluate all on the same split")


def _row_dict(row: Row) -> dict[str, Any]:
    return {
        "AP": row.ap,
        "after": row.after,
        "needs": {unit: [_bounds_list(each) for each in pair] for unit, pair in row.needs.items()},
        "ratios": {
            unit: {"estimate": _bounds_list(ratio.estimate), "interval": _bounds_list(ratio.interval)}
            for unit, ratio in row.ratios.items()
        },
    }


def _bounds_list(bounds: Bounds | None) -> list[float | None] | None:
    return None if bounds is None else [None if isinf(value) else value for value in bounds]
