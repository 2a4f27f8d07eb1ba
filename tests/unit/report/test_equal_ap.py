"""Ratios of length to equal AP: worked by hand, with what is never reached, and on a world in which they are known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condetr.metrics.matches import find_matches
from condetr.report.equal_ap import Bounds, Curve, Side, compare_sides
from tests.unit.metrics.test_coco import HERE, THERE, guess, split_of, truth

LENGTHS = np.array([10.0, 20, 40, 80])


def side(*ap: list[float], lengths: np.ndarray = LENGTHS) -> Side:
    return Side(name="detr", progress={"epochs": lengths}, ap=np.array(ap))


def test_a_straight_line_over_the_logarithm_stays_one() -> None:
    curve = Curve(LENGTHS, np.array([0.1, 0.2, 0.3, 0.4]))
    assert curve.needed(0.25) == pytest.approx((20 * math.sqrt(2),) * 2)
    assert curve.after(20 * math.sqrt(2)) == pytest.approx(0.25)
    assert curve.needed(0.4) == pytest.approx((80, 80))


def test_outside_a_curve_only_a_bound_is_known() -> None:
    curve = Curve(LENGTHS, np.array([0.1, 0.2, 0.3, 0.4]))
    assert curve.needed(0.05) == (0, 10)
    assert curve.needed(0.41) == (80, math.inf)
    assert math.isnan(curve.after(81.0))
    assert Curve(np.array([80.0]), np.array([0.4])).needed(0.4) == pytest.approx((80, 80))


def test_an_ap_counts_when_it_is_first_reached() -> None:
    assert Curve(LENGTHS, np.array([0.1, 0.3, 0.2, 0.4])).needed(0.3) == pytest.approx((20, 20))


@settings(max_examples=15)
@given(st.lists(st.floats(0.01, 0.2), min_size=4, max_size=4).map(np.cumsum), st.floats(1.1, 8))
def test_a_side_that_is_stretched_needs_so_many_times_as_long(ap: np.ndarray, slowness: float) -> None:
    slow = side(ap.tolist(), lengths=LENGTHS * slowness)
    rows = compare_sides(side(ap.tolist()), slow).rows
    for row in rows:
        assert row.ratios["epochs"].estimate == pytest.approx((slowness,) * 2)
        assert row.ratios["epochs"].interval is None  # one seed


def test_what_one_side_never_reaches_stays_a_bound() -> None:
    good, bad = (
        side([0.2, 0.3, 0.4, 0.5], [0.21, 0.31, 0.41, 0.51]),
        side([0.0, 0.02, 0.1, 0.25], [0.0, 0.03, 0.11, 0.26]),
    )

    never = compare_sides(good, bad, levels=[0.455], draws=40).rows[0]
    assert never.needs["epochs"][1] == (80, math.inf)
    estimate, interval = never.ratios["epochs"]
    assert estimate == pytest.approx((80 / (40 * math.sqrt(2)), math.inf))
    assert interval is not None
    assert 1.3 < interval.low <= estimate.low
    assert interval.high == math.inf

    early = compare_sides(good, bad, levels=[0.1], draws=40).rows[0]
    assert early.needs["epochs"][0] == (0, 10)
    assert early.ratios["epochs"].estimate.low == pytest.approx(early.needs["epochs"][1].low / 10)
    assert early.ratios["epochs"].estimate.high == math.inf

    other_way = compare_sides(bad, good, draws=40).rows[-1].ratios["epochs"]
    assert other_way.estimate == pytest.approx((0, 1))
    assert other_way.interval == pytest.approx((0, 1))

    neither = compare_sides(bad, bad, levels=[0.9], draws=9).rows[0].ratios["epochs"]
    assert neither == (Bounds(0, math.inf), Bounds(0, math.inf))


def test_differences_are_those_of_equal_lengths() -> None:
    first, second = compare_sides(
        side([0.1, 0.2, 0.3, 0.4]), side([0.1, 0.15], lengths=np.array([20.0, 40]))
    ).differences[:2]
    assert (first.unit, first.after, second.after) == ("epochs", 20, 40)
    assert [*first.ap, *second.ap] == pytest.approx([0.2, 0.1, 0.3, 0.15])


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, covered, repeats = np.random.default_rng(3), 0, 20
    for _ in range(repeats):
        sides = []
        for speed in (3, 1):
            pace = speed * np.exp(rng.normal(0, 0.15, size=(5, 1)))
            ap = 0.6 * (1 - np.exp(-((LENGTHS * pace / 60) ** 0.7))) + rng.normal(0, 0.01, size=(5, 4))
            sides.append(side(*ap.tolist()))
        interval = compare_sides(*sides, draws=25).rows[-1].ratios["epochs"].interval
        assert interval is not None
        assert interval.high - interval.low < 3
        covered += interval.low <= 3 <= interval.high
    assert covered >= 17


def test_images_are_drawn_the_same_for_both_sides() -> None:
    split = split_of(truth(HERE, image_id=1), truth(THERE, image_id=2))
    both, first = (
        find_matches(split, found)
        for found in (
            {1: guess(HERE, scores=(0.9,)), 2: guess(THERE, scores=(0.8,))},
            {1: guess(HERE, scores=(0.9,))},
        )
    )
    ours, theirs = (
        Side(name="x", progress={"epochs": np.array([10.0])}, ap=np.array([[m.ap()]]), matches=((m,),))
        for m in (both, first)
    )

    alike, unlike = (compare_sides(ours, other, draws=60).differences[0].interval for other in (ours, theirs))

    assert alike == (0, 0)
    # Neither image, one or both may be the second, which only one side finds: AP is 1, 51/101 or 0 there.
    assert unlike == pytest.approx((0, 1))
