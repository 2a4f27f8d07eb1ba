import io
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from condetr.config import from_mapping, override
from condetr.engine.optim import (
    CosineScheduleConfig,
    EmaConfig,
    LinearScheduleConfig,
    OptimizerConfig,
    SgdConfig,
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


class ThreeParts(nn.Module):
    """A backbone, an encoder, and a head, with norms in the last two."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(6, 6)
        self.encoder = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 6), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(6, 6, 1), nn.GroupNorm(2, 6), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.encoder(self.backbone(x)).T[None, :, :, None])
        return found


BOTH = OptimizerConfig(
    lr=1e-3, norm_weight_decay=0.0, weight_decay=0.01, clip_norm=0.01, sgd=SgdConfig(lr=0.02, all_but=("encoder",))
)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, *, number: int) -> None:
    torch.manual_seed(number)
    optimizer.zero_grad()
    model(torch.randn(5, 6)).pow(2).mean().backward()
    for part, limit in BOTH.limits(optimizer):
        torch.nn.utils.clip_grad_norm_([p for group in part.param_groups for p in group["params"]], limit)
    set_learning_rates(optimizer, 1 / (1 + number))
    optimizer.step()


def test_adamw_and_sgd_train_one_detector_as_each_would_alone() -> None:
    ours, theirs = ThreeParts(), ThreeParts()
    optimizer = BOTH.build(ours)
    encoder, sgd = [*theirs.encoder[1].parameters()], [*theirs.backbone.parameters()]
    sgd += [*theirs.head[0].parameters(), *theirs.head[3].parameters()]
    norms = [*theirs.head[1].parameters(), *theirs.head[2].parameters()]
    groups: list[dict[str, Any]] = [{"params": encoder}]
    groups += [{"params": [*theirs.encoder[0].parameters()], "weight_decay": 0.0}]
    sgd_groups: list[dict[str, Any]] = [{"params": sgd}, {"params": norms, "weight_decay": 0.0}]
    alone = [
        torch.optim.AdamW(
            groups,
            lr=1e-3,
            weight_decay=0.01,
            fused=True,
        ),
        torch.optim.SGD(
            sgd_groups,
            lr=0.02,
            momentum=0.9,
            weight_decay=0.01,
            fused=True,
        ),
    ]
    for number in range(20):
        step(ours, optimizer, number=number)
        theirs.zero_grad()
        torch.manual_seed(number)
        theirs(torch.randn(5, 6)).pow(2).mean().backward()
        before = torch.nn.utils.clip_grad_norm_([*encoder, *theirs.encoder[0].parameters()], 0.01)
        assert before > 0.01
        for part, lr in zip(alone, (1e-3, 0.02), strict=True):
            for group in part.param_groups:
                group["lr"] = lr * (1 / (1 + number))
            part.step()
    moved = [(a - b).abs().max() for a, b in zip(ours.parameters(), ThreeParts().parameters(), strict=True)]
    assert min(moved) > 0
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("fused", [False, True])
def test_what_the_kernels_of_torch_round_differently_is_rounding_alone(fused: bool) -> None:  # noqa: FBT001
    ours, theirs = ThreeParts(), ThreeParts()
    optimizer = OptimizerConfig(weight_decay=0.01, sgd=SgdConfig(lr=0.02)).build(ours)
    other = torch.optim.SGD(theirs.parameters(), lr=0.02, momentum=0.9, weight_decay=0.01, fused=fused)
    for model, each in itertools.product((ours, theirs), range(20)):
        torch.manual_seed(each)
        model.zero_grad()
        model(torch.randn(5, 6)).pow(2).mean().backward()
        (optimizer if model is ours else other).step()
    for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, their, atol=1e-6, rtol=1e-5)


def test_both_continue_from_a_saved_state_to_the_same_bits() -> None:
    whole, stopped = ThreeParts(), ThreeParts()
    for model in (whole, stopped):
        optimizer = BOTH.build(model)
        for number in range(5):
            step(model, optimizer, number=number)
        if model is whole:
            for number in range(5, 10):
                step(model, optimizer, number=number)
    saved = io.BytesIO()
    torch.save((stopped.state_dict(), optimizer.state_dict()), saved)
    saved.seek(0)
    weights, state = torch.load(saved, weights_only=True)
    resumed = ThreeParts()
    resumed.load_state_dict(weights)
    optimizer = BOTH.build(resumed)
    optimizer.load_state_dict(state)
    for number in range(5, 10):
        step(resumed, optimizer, number=number)
    for mine, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_norms_can_decay_otherwise_than_weights() -> None:
    optimizer = OptimizerConfig(norm_weight_decay=0.0).build(ThreeParts())
    found = [(group["weight_decay"], len(group["params"]), group["lr"]) for group in optimizer.param_groups]
    assert found == [(1e-4, 6, 1e-4), (0.0, 6, 1e-4), (1e-4, 2, 1e-5)]


def test_sgd_alone_is_sgd() -> None:
    config = override(OptimizerConfig(), ["sgd.lr=0.1", "sgd.clip_norm=2"])
    optimizer = config.build(TwoParts())
    assert isinstance(optimizer, torch.optim.SGD)
    assert config.limits(optimizer) == [(optimizer, 2.0)]


def test_settings_of_both_survive_a_file() -> None:
    plain = {"lr": 1e-3, "sgd": {"lr": 0.02, "all_but": ["encoder"]}}
    config = from_mapping(OptimizerConfig, plain, source="test")
    assert config == OptimizerConfig(lr=1e-3, sgd=SgdConfig(lr=0.02, all_but=("encoder",)))


def test_the_step_schedule_can_drop_again() -> None:
    factor = StepScheduleConfig(drop_epoch=2, further_drop_epochs=(3,)).build(steps_per_epoch=10, steps=40)
    assert [factor(step) for step in (19, 20, 29, 30)] == pytest.approx([1.0, 0.1, 0.1, 0.01])
