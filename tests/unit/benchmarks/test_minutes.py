import json
from pathlib import Path

import pytest

from benchmarks.minutes import plan
from benchmarks.minutes.run import Seconds, in_minutes
from benchmarks.minutes.summarise import table_of
from condetr.engine.optim import LinearScheduleConfig, StepScheduleConfig
from condetr.errors import InputError
from condetr.recipes.registry import recipe

AP = {"recipe-seed1": 0.30, "recipe-seed2": 0.40, "muon5-seed1": 0.35, "muon5-seed2": 0.43, "mal1-seed3": 0.9}


@pytest.mark.parametrize("name", plan.CHANGES)
def test_every_change_changes_the_recipe(name: str) -> None:
    base = recipe("conditional_detr_mobilenet")
    assert (plan.changed(base, name) == base) == (name == "recipe")


def test_changes_add_up() -> None:
    base = recipe("conditional_detr_mobilenet")
    config = plan.changed(base, "linear+rate2+muon5+mosaic")
    assert config.schedule == LinearScheduleConfig(warmup_steps=200)
    assert (config.optimizer.lr, config.optimizer.backbone_lr) == pytest.approx((8e-4, 2e-4))
    assert (config.optimizer.kind, config.optimizer.muon_rate) == ("muon", 5.0)
    assert config.data.transform.dense is not None
    assert config.data.transform.dense.mosaic == 0.5
    with pytest.raises(InputError, match="there is no change 'moun'; there are recipe, rate2"):
        plan.changed(base, "linear+moun")


def test_a_budget_gives_as_many_steps_as_fit_beside_the_rest() -> None:
    config = in_minutes(recipe("conditional_detr_mobilenet"), 10, seconds=Seconds(0.5, rest=30.0, steps_per_epoch=25))
    assert (config.max_steps, config.epochs, config.evaluate_every) == (1140, 46, 46)
    assert isinstance(config.schedule, StepScheduleConfig)
    assert config.schedule.drop_epoch == pytest.approx(140 / 150 * 1140 / 25, abs=1e-3)


def test_only_changes_of_the_step_are_timed() -> None:
    assert plan.costly_part("rate2+muon5+linear+groups1") == "muon5+groups1"
    assert plan.costly_part("rate2") == ""


def test_gains_are_those_of_equal_seeds(tmp_path: Path) -> None:
    for name, ap in AP.items():
        (tmp_path / name).mkdir()
        numbers = {"last": {"AP": ap, "AP50": 2 * ap}, "epochs": 12, "steps": 305}
        (tmp_path / name / "results.json").write_text(json.dumps(numbers))
    assert table_of(tmp_path)[2:] == [
        "| mal1 | 0.900 | 1.800 |  | 12 | 305 | 1 |",
        "| muon5 | 0.390 | 0.780 | +0.040 (+0.030 to +0.050) | 12 | 305 | 2 |",
        "| recipe | 0.350 | 0.700 |  | 12 | 305 | 2 |",
    ]
