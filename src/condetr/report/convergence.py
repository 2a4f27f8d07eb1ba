"""Convergence: how long each run took to reach an AP, and how many times faster one is than another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float
from scipy import stats

from condetr.errors import InputError
from condetr.metrics.matches import Matches

Unit = Literal["epochs", "steps", "seconds"]
UNITS: tuple[Unit, ...] = get_args(Unit)
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training: its AP at every evaluation, and its settings."""

    name: str
    ap: Float[np.ndarray, " N"]
    """AP from 0 to 1, in order of time."""
    progress: Mapping[Unit, Float[np.ndarray, " N"]]
    """The progress of the training at each of these evaluations, in the recorded units."""
    settings: Mapping[str, Any] | None = None
    """Each setting by its path, and counts of images; None if they are not recorded."""
    is_complete: bool = True
    """False if it has not ended."""
    matches: Matches | None = None
    """What its only AP was computed from, if it is that of an evaluation afterwards."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ only in the seed."""

    name: str
    runs: tuple[Run, ...]

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units that all runs recorded."""
        return tuple(unit for unit in UNITS if all(unit in run.progress for run in self.runs))


class Need(NamedTuple):
    """How long a group's runs took to reach an AP, in one unit."""

    mean: float | None
    """The geometric mean over the runs; None if one of them did not reach it."""
    each: tuple[float | None, ...]


class SpeedUp(NamedTuple):
    """How many times faster a group was than the first group, in one unit."""

    ratio: float
    is_lower_bound: bool
    """True if the first group did not reach the AP: then the whole length of its training is compared."""
    interval: tuple[float, float] | None
    """95 %, by Welch's t-test on logarithms; None unless both groups have two seeds or more."""


class Row(NamedTuple):
    """One group at one AP level."""

    level: float
    group: str
    needs: dict[Unit, Need]
    speed_ups: dict[Unit, SpeedUp]


class Difference(NamedTuple):
    """A setting outside the detector in which runs differ."""

    topic: Literal["data", "batch", "schedule", "evaluation"]
    setting: str
    values: dict[str, Any]
    """By group."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs side by side; speed-ups are relative to the first group."""

    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    unknown: tuple[str, ...]
    """Runs whose data and settings are not recorded."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "groups": [
                {
                    "name": group.name,
                    "runs": [run.name for run in group.runs],
                    "best_AP": [_best(r) for r in group.runs],
                }
                for group in self.groups
            ],
            "speed_up_over": self.groups[0].name,
            "rows": [
                {
                    "AP": row.level,
                    "group": row.group,
                    "needs": {unit: need._asdict() for unit, need in row.needs.items()},
                    "speed_ups": {unit: speed_up._asdict() for unit, speed_up in row.speed_ups.items()},
                }
                for row in self.rows
            ],
            "differences": [difference._asdict() for difference in self.differences],
            "settings_unknown": list(self.unknown),
        }


def compare(runs: Sequence[Run], *, levels: Sequence[float] | None = None) -> Comparison:
    """Compare runs; the groups keep the order of their first runs. Without `levels` round ones are chosen.

    Raises InputError if a level is not between 0 and 1, if there are none because no run learnt anything, or if runs
    have the same settings and the same seed, because a confidence interval needs independent runs.
    """
    groups = group_by_settings(runs)
    for group in groups:
        _require_different_seeds(group)
    beyond = [level for level in levels or [] if not 0 < level <= 1]
    if beyond:
        raise InputError(f"an AP level must be above 0 and at most 1, got {beyond[0]:g}")
    chosen = sorted(set(levels)) if levels else round_levels(max(_best(run) for run in runs))
    if not chosen:
        raise InputError("none of the runs reached an AP of 0.01; name the levels to compare, or train longer")
    return Comparison(
        groups=groups,
        rows=tuple(_row(group, first=groups[0], level=level) for level in chosen for group in groups),
        differences=tuple(differences(groups)),
        unknown=tuple(run.name for run in runs if run.settings is None),
    )


def group_by_settings(runs: Sequence[Run]) -> tuple[Group, ...]:
    """Group runs that differ only in the seed; a run without recorded settings forms its own group."""
    groups: list[list[Run]] = []
    for run in runs:
        same = next((group for group in groups if run.settings is not None and _same(group[0], run)), None)
        if same is None:
            groups.append([run])
        else:
            same.append(run)
    return tuple(
        Group(name=group[0].name if len(group) == 1 else f"{group[0].name} ({len(group)} seeds)", runs=tuple(group))
        for group in groups
    )


def needed(ap: Float[np.ndarray, " N"], progress: Float[np.ndarray, " N"], *, level: float) -> float | None:
    """Return where AP first reached a level, by linear interpolation between evaluations and from 0 at the start."""
    reached = np.flatnonzero(ap >= level)
    if not len(reached):
        return None
    here = int(reached[0])
    before, ap_before = (progress[here - 1], ap[here - 1]) if here else (0.0, 0.0)
    part = (level - ap_before) / (ap[here] - ap_before)
    return float(before + part * (progress[here] - before))


def round_levels(highest: float) -> list[float]:
    """Return up to nine round APs that are not above the highest."""
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if highest < 10 * step)
    return [round(step * number, 2) for number in range(1, 10) if step * number <= highest]


def _best(run: Run) -> float:
    return float(run.ap.max())


def _same(one: Run, other: Run) -> bool:
    one_settings, other_settings = ({**(run.settings or {}), "seed": None} for run in (one, other))
    return other.settings is not None and one_settings == other_settings


def _require_different_seeds(group: Group) -> None:
    names: dict[Any, str] = {}
    for run in group.runs:
        seed = (run.settings or {}).get("seed", run.name)
        if seed in names:
            raise InputError(f"{names[seed]} and {run.name} have the same settings and seed {seed}: give one of them")
        names[seed] = run.name


def _row(group: Group, *, first: Group, level: float) -> Row:
    needs = {unit: _need(group, unit=unit, level=level) for unit in group.units}
    compared = {
        unit: _speed_up(group, first=first, unit=unit, level=level)
        for unit in group.units
        if group is not first and unit in first.units
    }
    speed_ups = {unit: speed_up for unit, speed_up in compared.items() if speed_up is not None}
    return Row(level=level, group=group.name, needs=needs, speed_ups=speed_ups)


def _need(group: Group, *, unit: Unit, level: float) -> Need:
    each = tuple(needed(run.ap, run.progress[unit], level=level) for run in group.runs)
    there = [need for need in each if need is not None]
    return Need(mean=float(stats.gmean(there)) if len(there) == len(each) else None, each=each)


def _speed_up(group: Group, *, first: Group, unit: Unit, level: float) -> SpeedUp | None:
    mine, theirs = (_need(each, unit=unit, level=level) for each in (group, first))
    if mine.mean is None:
        return None
    if theirs.mean is None:
        spent = [
            run.progress[unit][-1] if need is None else need for run, need in zip(first.runs, theirs.each, strict=True)
        ]
        ratio = float(stats.gmean(spent)) / mine.mean
        # A bound below 1 is useless: the first group just ended earlier.
        return SpeedUp(ratio=ratio, is_lower_bound=True, interval=None) if ratio > 1 else None
    return SpeedUp(ratio=theirs.mean / mine.mean, is_lower_bound=False, interval=_interval(theirs.each, mine.each))


def _interval(theirs: Sequence[float | None], mine: Sequence[float | None]) -> tuple[float, float] | None:
    if min(len(theirs), len(mine)) < 2:
        return None
    test = stats.ttest_ind(np.log(np.array(theirs, float)), np.log(np.array(mine, float)), equal_var=False)
    low, high = np.exp(test.confidence_interval(CONFIDENCE))
    return float(low), float(high)


def differences(groups: Sequence[Group]) -> list[Difference]:
    """Return the settings that differ between groups, apart from the detector and its losses."""
    settings = {group.name: group.runs[0].settings for group in groups}
    told = {name: values for name, values in settings.items() if values is not None}
    found = []
    for path in dict.fromkeys(path for values in told.values() for path in values):
        topic = _topic(path)
        by_group = {name: values.get(path) for name, values in told.items()}
        if topic is not None and any(value != next(iter(by_group.values())) for value in by_group.values()):
            found.append(Difference(topic, path, by_group))
    return sorted(found, key=lambda difference: difference.topic)


def _topic(path: str) -> Literal["data", "batch", "schedule", "evaluation"] | None:
    """Return the topic of a setting; None for the detector, its losses and all others."""
    topics: dict[Literal["data", "batch", "schedule", "evaluation"], tuple[str, ...]] = {
        "batch": ("data.batch_size", "data.micro_batch_size"),
        "evaluation": ("evaluate_every", "data.eval_batch_size", "data.val_", "val_images"),
        "schedule": ("epochs", "schedule", "optimizer", "ema", "early_stopping", "init_from", "precision"),
        "data": ("data", "train_images"),
    }
    return next((topic for topic, starts in topics.items() if path.startswith(starts)), None)
