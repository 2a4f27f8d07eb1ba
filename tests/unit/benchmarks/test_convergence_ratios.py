"""The convergence benchmark's ratios, on logs of a world in which they are known."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.convergence import plan, ratios, run

BEST_LR = {"conditional_detr": 4e-4, "detr": 2e-4, "detr_focal": 2e-4}
AP_AN_EPOCH = {"conditional_detr": 0.04, "detr": 0.01, "detr_focal": 0.005}
AIDED = 0.06
BEST_WEIGHT, FASTER_WITH_IT = 6, 1.5


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[plan.Run], None]:
    for module in (ratios, run):
        monkeypatch.setattr(module, "RESULTS", tmp_path)

    def write(trained: plan.Run) -> None:
        rate = AIDED if trained.variant in plan.FASTER else AP_AN_EPOCH[trained.side]
        rate /= 1 if trained.tuning.lr == BEST_LR[trained.side] else 2
        rate *= FASTER_WITH_IT if trained.tuning.classification == BEST_WEIGHT else 1
        rows = [f"{epoch},{rate * epoch},{rate * epoch},{rate * epoch}" for epoch in range(1, trained.epochs + 1)]
        folder = tmp_path / trained.name
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("\n".join(["epoch,AP,AP50,AP75", *rows, ""]))
        (folder / "results.json").write_text(json.dumps({}))

    return write


@pytest.fixture
def searched(keep: Callable[[plan.Run], None]) -> Callable[[plan.Run], None]:
    """A setting whose search was made."""
    for trained in plan.search("dc5"):
        keep(trained)
    return keep


def stage(name: str, *, setting: plan.Setting = "dc5") -> list[plan.Run]:
    there = {each.name for each in plan.search(setting)}
    return [each for each in run.runs_of(setting, name) if each.name not in there]


@pytest.mark.usefixtures("searched")
def test_the_search_chooses_the_best_learning_rate_of_each_side() -> None:
    found = run.choose("dc5").tuning

    assert {side: tuning.lr for side, tuning in found.items()} == {side: BEST_LR[side] for side in found}
    assert list(found) == ["conditional_detr", "detr"]


def test_a_side_that_learns_four_times_as_fast_needs_a_quarter_of_the_epochs(
    searched: Callable[[plan.Run], None],
) -> None:
    for trained in (*stage("long"), *stage("schedules")):
        searched(trained)

    found = ratios.ratios_of("dc5")

    (schedule,) = found["detr"]
    assert (schedule["epochs"], schedule["epochs_needed"]) == (48, pytest.approx(12))
    assert schedule["ratio"] == ratios.headline(found["detr"]) == pytest.approx(4)
    assert schedule["ratios_by_seeds"] == pytest.approx([4] * 4)
    assert [level["ratio"] for level in found["levels"]["AP"] if level["detr"]] == pytest.approx([4] * 5)


def test_training_aids_are_compared_with_longer_plain_schedules(
    searched: Callable[[plan.Run], None],
) -> None:
    for trained in (*stage("long"), *stage("schedules"), *stage("faster")):
        searched(trained)

    plain = ratios.ratios_of("dc5")["faster"]["groups"]["longer"]

    assert [each["epochs_needed"] for each in plain] == pytest.approx([8, 16 / 1.5, 20 / 1.5])
    assert [each["ratio_is_a_lower_bound"] for each in plain] == [True, False, False]
    assert ratios.headline(plain) == pytest.approx(1.5)


def test_a_heavier_classification_loss_is_compared_with_the_papers_weights(
    keep: Callable[[plan.Run], None],
) -> None:
    settings: tuple[plan.Setting, ...] = ("stride32", "weighted")
    for trained in (each for setting in settings for each in plan.search(setting)):
        keep(trained)
    for trained in (each for setting in settings for each in stage("schedules", setting=setting)):
        keep(trained)
    for trained in stage("faster", setting="weighted"):
        keep(trained)

    found = ratios.ratios_of("weighted")

    assert ratios.is_complete("weighted")
    assert found["tuning"]["conditional_detr"] == {"lr": 4e-4, "classification": 6, "dropout": 0.0}
    without, aided = (found["faster_than_paper"][kind]["longer"] for kind in ("plain", "groups"))
    exact = [each["ratio"] for each in without if each["ratio"] and not each["ratio_is_a_lower_bound"]]
    assert exact == pytest.approx([1.5] * 5)
    assert ratios.headline(aided) == pytest.approx(1.5 * AIDED / AP_AN_EPOCH["conditional_detr"])
    assert (found["detr"], found["levels"]) == ([], {})


def test_a_schedule_of_which_one_seed_was_trained_does_not_count(searched: Callable[[plan.Run], None]) -> None:
    for trained in (*stage("long"), *stage("schedules")):
        if (trained.epochs, trained.seed) != (20, 2):
            searched(trained)

    assert list(ratios.ratios_of("dc5")["conditional_detr"]) == [8, 12, 16]


def test_epochs_that_were_not_evaluated_are_no_points_of_a_curve(
    keep: Callable[[plan.Run], None], tmp_path: Path
) -> None:
    trained = plan.search("few")[0]
    keep(trained)
    (tmp_path / trained.name / "metrics.csv").write_text("epoch,AP,AP50,AP75\n5,0.1,0.2,0.3\n6,,,\n10,0.4,0.5,0.6\n")

    assert ratios.curve_of(trained, measure="AP75") == [(5, 0.3), (10, 0.6)]


def test_the_headline_is_that_of_the_longest_schedule_that_was_equalled_and_of_the_best_of_these() -> None:
    curve = [(4.0, 0.2), (8.0, 0.4)]
    trained = ((40, 0.2), (48, 0.3), (48, 0.4), (96, 0.5))
    schedules = [ratios.as_good(curve, epochs=epochs, ap=ap) for epochs, ap in trained]

    assert [each["ratio"] for each in schedules] == [*map(pytest.approx, (10, 8, 6)), None]
    assert ratios.headline(schedules) == pytest.approx(6)


def test_the_papers_ratio_comes_out_of_its_table() -> None:
    *_, longest = ratios.published_ratios(**plan.PUBLISHED["R50"])

    assert longest["ratio"] == pytest.approx(6.7, abs=0.2)


def test_a_setting_that_searches_on_shares_the_runs_of_the_other() -> None:
    shorter, longer = ({each.name: each.config() for each in plan.search(s)} for s in ("few_dc5", "few_dc5_weighted"))

    assert {name: longer.get(name) for name in shorter} == shorter
    assert len(longer) > len(shorter)
