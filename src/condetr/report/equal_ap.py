"""How many times as long one side trains as another to the same AP, with a 95 % interval.

A curve of AP over epochs is interpolated monotonically (PCHIP) in the logarithm of the epochs, after each AP was
replaced by the best so far. The interval is a bootstrap of two stages: seeds are drawn with replacement, independently
on both sides, and then images, the same for all runs. Few seeds make such an interval too narrow; its tails are
therefore those of Student's t and of the unbiased variance (Hesterberg 2015, "expanded percentile"). SciPy's bootstrap
draws neither in two stages nor values that are only known to lie above or below something.

Where a curve begins above an AP or ends below it, only a bound of the epochs is known. Then each draw gives two bounds
of the ratio, and the interval reaches from a low quantile of the lower to a high quantile of the upper ones: it says
less than it could, but never more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats
from scipy.interpolate import PchipInterpolator

from condetr.metrics.matches import Matches
from condetr.report.convergence import CONFIDENCE, Unit

DRAWS = 1000


class Bounds(NamedTuple):
    """Between which values something lies: they are equal where it is known, and infinite where nothing is."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Side:
    """The trainings of one detector: seeds, and points on the way or schedules of several lengths."""

    name: str
    progress: Mapping[Unit, Float[np.ndarray, " L"]]
    """Of each point, increasing, as the mean over the seeds."""
    ap: Float[np.ndarray, "S L"]
    """From 0 to 1, for each seed."""
    matches: tuple[tuple[Matches, ...], ...] = ()
    """What each AP was computed from, for each seed; empty if it is not known."""


class Ratio(NamedTuple):
    """How many times as long the other side trains."""

    estimate: Bounds
    interval: Bounds | None
    """95 %; None where nothing can be drawn."""


class Row(NamedTuple):
    """An AP, and how long both sides need to reach it."""

    ap: float
    after: float | None
    """The other side's epochs after which it has this AP, which is then drawn, too; None for an AP that was given."""
    needs: dict[Unit, tuple[Bounds, Bounds]]
    """Of the side, and of the other."""
    ratios: dict[Unit, Ratio]


class Difference(NamedTuple):
    """AP of both sides after equally long trainings."""

    unit: Unit
    after: float
    ap: tuple[float, float]
    interval: Bounds | None
    """95 %, of the first minus the second."""


class EqualAp(NamedTuple):
    """A side beside another."""

    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]


class Curve:
    """AP over the length of a training, known from its first point to its last."""

    def __init__(self, length: Float[np.ndarray, " L"], ap: Float[np.ndarray, " L"]) -> None:
        self.length, self.ap = length, ap
        self.best = np.maximum.accumulate(ap)
        rises = np.concatenate([[True], np.diff(self.best) > 0])
        self._length_at = _interpolator(self.best[rises], np.log(length[rises]))
        self._ap_at = _interpolator(np.log(length), ap)

    def needed(self, level: float) -> Bounds:
        """Return how long a training must be to reach an AP."""
        if level < self.best[0]:
            return Bounds(0.0, float(self.length[0]))
        if level > self.best[-1]:
            return Bounds(float(self.length[-1]), np.inf)
        at = float(np.exp(self._length_at(level)))
        return Bounds(at, at)

    def after(self, length: float) -> float:
        """Return the AP of a training of a length, NaN where it is shorter or longer than all that are known."""
        return float(self._ap_at(np.log(length)))


def _interpolator(x: Float[np.ndarray, " L"], y: Float[np.ndarray, " L"]) -> Callable[[float], float]:
    if len(x) == 1:
        return lambda at: y[0] if at == x[0] else np.nan
    interpolator: Callable[[float], float] = PchipInterpolator(x, y, extrapolate=False)
    return interpolator


class Sample(NamedTuple):
    """The curves of both sides, from the seeds and images of a draw."""

    side: Curve
    other: Curve


class _Goal(NamedTuple):
    """An AP to reach: a given one, or that of the other side at one of its points."""

    level: float = 0.0
    point: int | None = None

    def of(self, sample: Sample) -> float:
        return self.level if self.point is None else float(sample.other.ap[self.point])


def compare_sides(
    side: Side, other: Side, *, levels: Sequence[float] = (), draws: int = DRAWS, seed: int = 0
) -> EqualAp:
    """Compare at each AP that the other side has at its points, or at the given levels, and at equal lengths."""
    ap = [(side.ap.mean(axis=0), other.ap.mean(axis=0)), *_drawn(side, other, draws=draws, seed=seed)]
    tail = _tail(len(side.ap), len(other.ap))
    goals = [_Goal(level=level) for level in levels] or [_Goal(point=point) for point in range(other.ap.shape[1])]
    units = [unit for unit in side.progress if unit in other.progress]
    samples = {
        unit: [Sample(Curve(side.progress[unit], ours), Curve(other.progress[unit], theirs)) for ours, theirs in ap]
        for unit in units
    }
    return EqualAp(
        rows=tuple(_row(goal, samples, other=other, tail=tail) for goal in goals),
        differences=tuple(each for unit in units for each in _differences(unit, samples[unit], tail=tail)),
    )


def _row(goal: _Goal, samples: Mapping[Unit, Sequence[Sample]], *, other: Side, tail: float) -> Row:
    """Return what the mean of the seeds, the first sample, says, with intervals over the others."""
    needs = {
        unit: [(each.side.needed(goal.of(each)), each.other.needed(goal.of(each))) for each in curves]
        for unit, curves in samples.items()
    }
    ratios = {unit: [_ratio(*pair) for pair in pairs] for unit, pairs in needs.items()}
    return Row(
        ap=goal.of(next(iter(samples.values()))[0]),
        after=None if goal.point is None else float(other.progress["epochs"][goal.point]),
        needs={unit: pairs[0] for unit, pairs in needs.items()},
        ratios={unit: Ratio(found[0], _interval(found[1:], tail=tail)) for unit, found in ratios.items()},
    )


def _ratio(side: Bounds, other: Bounds) -> Bounds:
    low = 0.0 if np.isinf(side.high) else other.low / side.high
    return Bounds(low, np.inf if side.low == 0 else other.high / side.low)


def _differences(unit: Unit, samples: Sequence[Sample], *, tail: float) -> list[Difference]:
    """Return the differences at each point of either side that lies within the curves of both."""
    mean, *drawn = samples
    found = []
    for after in np.union1d(mean.side.length, mean.other.length).tolist():
        ap = (mean.side.after(after), mean.other.after(after))
        if not np.isnan(ap).any():
            each = [sample.side.after(after) - sample.other.after(after) for sample in drawn]
            found.append(Difference(unit, after, ap, _interval([Bounds(d, d) for d in each], tail=tail)))
    return found


def _interval(drawn: Sequence[Bounds], *, tail: float) -> Bounds | None:
    if not drawn:
        return None
    lows, highs = np.array(drawn).T
    # Quantiles between two draws would be undefined where one is infinite.
    low, high = np.quantile(lows, tail, method="lower"), np.quantile(highs, 1 - tail, method="higher")
    return Bounds(float(low), float(high))


def _drawn(
    side: Side, other: Side, *, draws: int, seed: int
) -> list[tuple[Float[np.ndarray, " L"], Float[np.ndarray, " P"]]]:
    """Return the AP of samples; none where a side has one seed, and no images can be drawn."""
    has_images = bool(side.matches and other.matches)
    if not has_images and min(len(side.ap), len(other.ap)) < 2:
        return []
    rng = np.random.default_rng(seed)
    samples: list[tuple[Float[np.ndarray, " L"], Float[np.ndarray, " P"]]] = []
    while len(samples) < draws:
        times = _draw(len(side.matches[0][0].image_ids), rng) if has_images else None
        ours, theirs = (_mean_ap(each, _draw(len(each.ap), rng), times=times) for each in (side, other))
        if not np.isnan([*ours, *theirs]).any():  # images without any object
            samples.append((ours, theirs))
    return samples


def _draw(count: int, rng: np.random.Generator) -> Int[np.ndarray, " N"]:
    """Return how often each is drawn."""
    return rng.multinomial(count, np.full(count, 1 / count))


def _mean_ap(
    side: Side, seeds: Int[np.ndarray, " S"], *, times: Int[np.ndarray, " I"] | None
) -> Float[np.ndarray, " L"]:
    """Return the AP at each point, over seeds and on images that were drawn so many times."""
    drawn = np.flatnonzero(seeds)
    ap = side.ap[drawn]
    if times is not None:
        ap = np.array([[each.ap(times) for each in side.matches[number]] for number in drawn])
    mean: Float[np.ndarray, " L"] = np.average(ap, axis=0, weights=seeds[drawn])
    return mean


def _tail(*seeds: int) -> float:
    """Return the part of the draws outside each end of the interval."""
    tail, fewest = (1 - CONFIDENCE) / 2, min(seeds)
    if fewest < 2:
        return tail
    widening = np.sqrt(fewest / (fewest - 1))
    return float(stats.norm.cdf(widening * stats.t.ppf(tail, sum(seeds) - len(seeds))))
