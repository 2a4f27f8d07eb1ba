import re
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from condetr.api import fit as train
from condetr.config import load
from condetr.data.dense import DenseConfig
from condetr.engine import budget as budgets
from condetr.engine.budget import Budget, TimedStep, scaled
from condetr.engine.config import TrainConfig
from condetr.engine.optim import CosineScheduleConfig, StepScheduleConfig
from condetr.errors import InputError, RunError

Config = Callable[..., TrainConfig]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shortest training be planned, without time for a report."""
    monkeypatch.setattr(budgets, "FEWEST_STEPS", 12)
    monkeypatch.setattr("condetr.engine.train.report_seconds", lambda _: 0.0)


def spent(seconds: float, *, minutes: float, steps: list[float]) -> Budget:
    """Return a budget of which some seconds are spent."""
    return Budget(minutes=minutes, began=time.perf_counter() - seconds, timed=[*map(TimedStep, steps)])


def test_steps_evaluations_and_report_fill_the_minutes() -> None:
    budget = spent(100.0, minutes=10.0, steps=[9.0, 9.0, 0.4, 0.6])
    plan = budget.plan(step=4, evaluation_seconds=20.0, report_seconds=30.0)
    assert plan.evaluations == 3  # a tenth of 600 s
    assert plan.step_seconds == pytest.approx(0.5)
    assert plan.steps == pytest.approx(4 + (600 - 100 - 4 * 20 - 30) / 0.5, abs=1)


def test_parts_of_a_training_with_other_images_count_by_their_length() -> None:
    timed = [TimedStep(9.0), TimedStep(9.0), TimedStep(0.4, "clean"), TimedStep(0.6, "clean"), TimedStep(0.9, "mixed")]
    budget = Budget(minutes=1.0, began=time.perf_counter(), timed=timed)
    ahead = DenseConfig(start=0.0, mix_until=0.5, end=0.9).ahead(0.2)
    assert ahead == pytest.approx({"clean": 0.1 / 0.8, "mixed": 0.3 / 0.8, "unmixed": 0.4 / 0.8})
    plan = budget.plan(step=5, evaluation_seconds=1.0, report_seconds=0.0, ahead=ahead)
    assert plan.step_seconds == pytest.approx((0.1 * 0.5 + 0.3 * 0.9 + 0.4 * 0.7) / 0.8)


def test_quick_evaluations_are_not_more_than_ten() -> None:
    plan = spent(0.0, minutes=10.0, steps=[1.0] * 3).plan(step=3, evaluation_seconds=0.1, report_seconds=0.0)
    assert plan.evaluations == 10


def test_too_few_minutes_are_refused_with_a_number_that_suffices() -> None:
    def ask(minutes: float) -> None:
        budget = spent(0.0, minutes=minutes, steps=[10.0] * 3)
        budget.require_enough(budget.plan(step=3, evaluation_seconds=30.0, report_seconds=30.0))

    with pytest.raises(RunError, match=r"1 minutes are too few: a step takes 10 s here, .* report 60 s; ") as refused:
        ask(1.0)
    sufficient = re.search(r"give at least (\d+) minutes", str(refused.value))
    assert sufficient is not None
    ask(float(sufficient[1]))


def test_it_is_planned_after_the_first_steps_and_corrected_after_a_tenth_and_a_half() -> None:
    budget = spent(0.0, minutes=1.0, steps=[1.0] * 10)
    assert [budget.is_due(step=step, steps=500, plans=0) for step in (9, 10)] == [False, True]
    assert [budget.is_due(step=step, steps=500, plans=1) for step in (11, 49, 50)] == [False, False, True]
    assert [budget.is_due(step=step, steps=500, plans=2) for step in (249, 250)] == [False, True]
    assert not budget.is_due(step=400, steps=500, plans=3)
    resumed = spent(0.0, minutes=1.0, steps=[1.0] * 9)
    assert not resumed.is_due(step=60, steps=500, plans=1)


def test_evaluations_that_were_made_take_no_more_time() -> None:
    budget = spent(30.0, minutes=1.0, steps=[1.0] * 12)
    plan = budget.plan(step=12, done=0.5, evaluation_seconds=1.0, report_seconds=2.0)
    assert plan.evaluations == 6
    assert plan.steps == pytest.approx(
        12 + 24, abs=1
    )  # of 30 seconds, three evaluations, the last one and the report are left out


def test_the_schedule_keeps_its_shape(tiny: Config) -> None:
    config = tiny(epochs=150, schedule=StepScheduleConfig(drop_epoch=140, warmup_steps=200))
    short = scaled(config, steps=305, steps_per_epoch=10, evaluations=4)
    assert (short.epochs, short.max_steps, short.evaluate_every) == (31, 305, 7)
    factor = short.schedule.build(steps_per_epoch=10, steps=305)
    assert [factor(step) for step in (0, 30, 283, 285, 304)] == pytest.approx([1 / 30, 1, 1, 0.1, 0.1])
    again = scaled(short, steps=1500, steps_per_epoch=10, evaluations=4)
    assert again.schedule.build(steps_per_epoch=10, steps=1500)(1399) == pytest.approx(1)
    assert again.schedule.build(steps_per_epoch=10, steps=1500)(1401) == pytest.approx(0.1)
    annealed = scaled(replace(config, schedule=CosineScheduleConfig()), steps=305, steps_per_epoch=10, evaluations=4)
    assert annealed.schedule.build(steps_per_epoch=10, steps=305)(305) == pytest.approx(0)


@pytest.mark.usefixtures("quick")
def test_a_planned_training_is_complete_and_goes_on_as_planned(tiny: Config, tmp_path: Path) -> None:
    said = StringIO()
    config = tiny(minutes=0.1, schedule=CosineScheduleConfig())
    result = train(config, out=tmp_path / "run", console=Console(file=said, width=500))
    written = load(TrainConfig, tmp_path / "run" / "config.yaml")
    assert result.facts.steps == written.max_steps
    assert result.facts.steps >= 12
    assert result.results.AP == result.results.AP  # it was evaluated
    assert "plan for 0.1 minutes: " in said.getvalue()
    assert written.minutes == config.minutes
    again = train(config, out=tmp_path / "run", resume=True)
    assert again.facts.steps == result.facts.steps
    with pytest.raises(InputError, match=r"cannot resume with another setting: minutes \(it was 0\.1, now 5\.0"):
        train(replace(config, minutes=5.0), out=tmp_path / "run", resume=True)


@pytest.mark.usefixtures("quick")
def test_a_stopped_training_keeps_to_what_is_left_of_its_minutes(tiny: Config, tmp_path: Path) -> None:
    class Stop(Exception):  # noqa: N818 - it is what happens
        pass

    class StoppingConsole(Console):
        def print(self, *objects: object, **_: object) -> None:
            if objects and "step 14" in str(objects[0]):
                raise Stop

    config = tiny(minutes=0.1, checkpoint_minutes=0.0)
    with pytest.raises(Stop):
        train(config, out=tmp_path / "run", console=StoppingConsole(quiet=True))
    planned = load(TrainConfig, tmp_path / "run" / "config.yaml")
    said = StringIO()
    result = train(config, out=tmp_path / "run", resume=True, console=Console(file=said, width=500))
    assert planned.max_steps is not None
    assert "resuming after step " in said.getvalue()
    assert result.facts.steps == load(TrainConfig, tmp_path / "run" / "config.yaml").max_steps


def test_too_few_minutes_end_the_training(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"0\.01 minutes are too few"):
        train(tiny(minutes=0.01), out=tmp_path / "run")
