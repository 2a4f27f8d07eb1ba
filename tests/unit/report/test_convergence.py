from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condetr.errors import InputError
from condetr.report.convergence import Run, compare, needed

SETTINGS = {"seed": 1, "detector.kind": "detr", "data.batch_size": 16, "epochs": 50, "data.path": "coco"}
AP = np.array([0.1, 0.2, 0.3, 0.4])


def run(name: str, *, slowness: float = 1.0, ap: np.ndarray = AP, **settings: object) -> Run:
    epochs = slowness * np.arange(1.0, len(ap) + 1)
    return Run(name=name, ap=ap, progress={"epochs": epochs, "seconds": 60 * epochs}, settings={**SETTINGS, **settings})


rising = st.lists(st.floats(0.01, 0.2), min_size=2, max_size=8).map(np.cumsum)


def test_need_lies_on_a_straight_line_between_evaluations() -> None:
    assert needed(AP, np.array([2.0, 4, 6, 8]), level=0.25) == pytest.approx(5)
    assert needed(AP, np.array([2.0, 4, 6, 8]), level=0.05) == pytest.approx(1)
    assert needed(AP, np.array([2.0, 4, 6, 8]), level=0.41) is None


def test_an_ap_counts_when_it_is_first_reached() -> None:
    assert needed(np.array([0.2, 0.1, 0.2]), np.array([1.0, 2, 3]), level=0.2) == pytest.approx(1)


@given(rising, st.floats(0.2, 20), st.floats(0.1, 0.9))
def test_a_stretched_run_is_slower_by_how_much_it_was_stretched(ap: np.ndarray, slowness: float, part: float) -> None:
    ap = ap / ap.max() * 0.9
    slow, fast = run("slow", slowness=slowness, ap=ap, kind="detr"), run("fast", ap=ap)
    _, row = compare([slow, fast], levels=[part * 0.9]).rows
    assert row.speed_ups["epochs"].ratio == pytest.approx(slowness)
    assert row.speed_ups["seconds"].ratio == pytest.approx(slowness)


def test_runs_that_differ_in_the_seed_alone_form_a_group_with_an_interval() -> None:
    slow = [run(f"slow{seed}", slowness=each, seed=seed, epochs=60) for seed, each in enumerate([5.0, 6.0, 7.2])]
    fast = [run(f"fast{seed}", slowness=each, seed=seed) for seed, each in enumerate([1.0, 1.1, 1.21])]

    comparison = compare([*slow, *fast], levels=[0.2])

    assert [group.name for group in comparison.groups] == ["slow0 (3 seeds)", "fast0 (3 seeds)"]
    speed_up = comparison.rows[1].speed_ups["epochs"]
    assert speed_up.ratio == pytest.approx(6 / 1.1)
    assert speed_up.interval is not None
    low, high = speed_up.interval
    assert 1 < low < speed_up.ratio < high < 10


def test_one_run_does_not_count_as_two_seeds() -> None:
    with pytest.raises(InputError, match="one and copy have the same settings and seed 1: give one of them"):
        compare([run("one"), run("copy"), run("other", seed=2)], levels=[0.2])


def test_what_the_first_run_never_reached_gives_a_bound() -> None:
    slow = run("slow", slowness=10.0, ap=AP / 2, epochs=60)
    rows = {(row.level, row.group): row for row in compare([slow, run("fast")], levels=[0.1, 0.3]).rows}
    assert rows[0.3, "slow"].needs["epochs"].mean is None
    bound = rows[0.3, "fast"].speed_ups["epochs"]
    assert bound.is_lower_bound
    assert bound.ratio == pytest.approx(40 / 3)
    assert not rows[0.1, "fast"].speed_ups["epochs"].is_lower_bound


def test_a_bound_that_says_nothing_is_left_out() -> None:
    short = run("short", ap=np.array([0.05]), epochs=1)
    assert compare([short, run("long")], levels=[0.3]).rows[1].speed_ups == {}


def test_what_else_differs_is_said_by_topic() -> None:
    changes: dict[str, Any] = {
        "detector.kind": "conditional_detr",
        "data.batch_size": 8,
        "epochs": 12,
        "data.path": "voc",
    }
    comparison = compare([run("a"), run("b", **changes)])
    assert [(each.topic, each.setting) for each in comparison.differences] == [
        ("batch", "data.batch_size"),
        ("data", "data.path"),
        ("schedule", "epochs"),
    ]
    assert comparison.differences[0].values == {"a": 16, "b": 8}


def test_a_run_that_does_not_tell_its_settings_is_named_and_stays_alone() -> None:
    silent = [Run(name=name, ap=AP, progress={"epochs": np.arange(1.0, 5)}) for name in ("x", "y")]
    comparison = compare([*silent, run("a")])
    assert len(comparison.groups) == 3
    assert comparison.unknown == ("x", "y")
    assert set(comparison.rows[-1].needs) == {"epochs", "seconds"}
    assert set(comparison.rows[-1].speed_ups) == {"epochs"}


@pytest.mark.parametrize(
    ("best", "levels"), [(0.44, (0.05, 0.4)), (0.557, (0.1, 0.5)), (0.03, (0.01, 0.03)), (1.0, (0.2, 1.0))]
)
def test_levels_are_round_and_within_reach(best: float, levels: tuple[float, float]) -> None:
    chosen = [row.level for row in compare([run("a", ap=np.array([best]))]).rows]
    assert (chosen[0], chosen[-1]) == levels
    assert len(chosen) <= 9


@pytest.mark.parametrize(
    ("levels", "ap", "sentence"),
    [([0.5, 1.5], 0.4, "at most 1, got 1.5"), ([0.0], 0.4, "got 0"), (None, 0.001, "none of the runs reached")],
)
def test_levels_that_cannot_be_compared_are_refused(levels: list[float] | None, ap: float, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        compare([run("a", ap=np.array([ap]))], levels=levels)
