import pytest
import torch
from torch import nn

from condetr.engine.optim import (
    CosineScheduleConfig,
    EmaConfig,
    LinearScheduleConfig,
    OptimizerConfig,
    StepScheduleConfig,
    WsdScheduleConfig,
    set_learning_rates,
)
from condetr.errors import InputError


class TwoParts(nn.Module):
    """A backbone and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.other = nn.Linear(2, 2)


def test_the_backbone_has_its_own_rate_and_everything_decays() -> None:
    optimizer = OptimizerConfig().build(TwoParts())
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 1e-5]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 1e-4]


def test_a_backbone_rate_of_zero_leaves_the_backbone_alone() -> None:
    assert len(OptimizerConfig(backbone_lr=0.0).build(TwoParts()).param_groups) == 1


def test_named_parameters_get_a_tenth_of_the_rate() -> None:
    optimizer = OptimizerConfig(lr=2e-4, backbone_lr=3e-5, slow=("bias",)).build(TwoParts())
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2e-4, 2e-5, 3e-5])
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1, 2]


def test_rates_are_scaled_group_by_group() -> None:
    optimizer = OptimizerConfig().build(TwoParts())
    assert set_learning_rates(optimizer, 0.1) == pytest.approx(1e-5)
    assert optimizer.param_groups[1]["lr"] == pytest.approx(1e-6)


def test_the_step_schedule_drops_once() -> None:
    factor = StepScheduleConfig(drop_epoch=40).build(steps_per_epoch=10, steps=500)
    assert [factor(step) for step in (0, 399, 400, 499)] == [1.0, 1.0, 0.1, 0.1]


def test_the_cosine_schedule_rises_and_ends_at_its_final_factor() -> None:
    factor = CosineScheduleConfig(warmup_steps=10, final_factor=0.1).build(steps_per_epoch=10, steps=110)
    assert factor(0) == pytest.approx(0.1)
    assert factor(10) == pytest.approx(1.0)
    assert factor(110) == pytest.approx(0.1)


def test_the_linear_schedule_falls_evenly_after_its_warm_up() -> None:
    factor = LinearScheduleConfig(warmup_steps=10, final_factor=0.2).build(steps_per_epoch=10, steps=110)
    assert [factor(step) for step in (0, 9, 10, 60, 110)] == pytest.approx([0.1, 1.0, 1.0, 0.6, 0.2])


def test_the_wsd_schedule_is_flat_then_falls_then_is_flat_again() -> None:
    schedule = WsdScheduleConfig(warmup_steps=10, decay_from=0.5, decay_to=0.9, final_factor=0.1)
    factor = schedule.build(steps_per_epoch=10, steps=100)
    assert [factor(step) for step in (0, 10, 50, 70, 90, 99)] == pytest.approx([0.1, 1.0, 1.0, 0.55, 0.1, 0.1])


def test_a_decay_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InputError, match=r"the decay must end after it has begun: got decay_from=0\.9, decay_to=0\.8"):
        WsdScheduleConfig(decay_from=0.9, decay_to=0.8)


def test_the_average_follows_at_first_and_smooths_later() -> None:
    detector = TwoParts()
    ema = EmaConfig(decay=0.5).build(detector)
    before = detector.other.weight.detach().clone()
    ema.update(detector)
    with torch.no_grad():
        detector.other.weight += 1
    ema.update(detector)
    averaged = ema.module.get_parameter("other.weight")
    expected = before + (1 - min(0.5, 2 / 11))
    torch.testing.assert_close(averaged, expected)
