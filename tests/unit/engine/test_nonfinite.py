import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from condetr.api import open_splits
from condetr.data.batch import Batch
from condetr.engine.config import TrainConfig
from condetr.engine.nonfinite import Culprit, find_culprit, record_nonfinite
from condetr.engine.processes import launch
from condetr.engine.train import prepare
from condetr.runs.folder import RunFolder
from condetr.shapes import Targets

Config = Callable[..., TrainConfig]


class Root(nn.Module):
    """Finite at 0, unlike its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


def batch() -> Batch:
    pixels = torch.ones(1, 3, 2, 2, dtype=torch.uint8)
    return Batch(
        pixels,
        torch.zeros(1, 2, 2, dtype=torch.bool),
        sizes_hw=((2, 2),),
        targets=Targets.none(1),
        image_ids=(7,),
        original_sizes_hw=((2, 2),),
    )


def culprit(detector: nn.Module) -> Culprit | None:
    return find_culprit(detector, batch(), loss_of=lambda batch: detector(batch.pixels.float()).sum())


def linear(weight: float) -> nn.Linear:
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, weight)
    nn.init.zeros_(layer.bias)
    return layer


@pytest.mark.parametrize(
    ("detector", "expected"),
    [
        (nn.Sequential(linear(1.0), linear(1.0)), None),
        (nn.Sequential(linear(1.0), linear(float("nan"))), Culprit("1.weight", "parameter")),
        (nn.Sequential(linear(1.0), linear(3e38), linear(1.0)), Culprit("1", "output")),
        (nn.Sequential(linear(1.0), linear(5e37)), Culprit("criterion", "loss")),
        (nn.Sequential(linear(1.0), linear(0.0), Root()), Culprit("1", "gradient of its output")),
    ],
)
def test_the_first_value_that_is_not_finite_is_named(detector: nn.Module, expected: Culprit | None) -> None:
    assert culprit(detector) == expected


def test_a_record_holds_the_images_the_facts_and_the_batch(tmp_path: Path) -> None:
    detector = nn.Sequential(linear(float("inf")))
    record_nonfinite(
        tmp_path / "step_3",
        detector,
        batches=[batch()],
        loss_of=lambda batch: detector(batch.pixels.float()).sum(),
        facts={"step": 3, "loss": float("nan")},
    )
    report = json.loads((tmp_path / "step_3" / "report.json").read_text())
    assert (report["step"], report["loss"], report["image_ids"], report["weights"]) == (3, "nan", [7], {"0": "inf"})
    assert report["first_not_finite"] == {"module": "0.weight", "what": "parameter"}
    kept = torch.load(tmp_path / "step_3" / "batch.pt", weights_only=True)
    torch.testing.assert_close(kept["pixels"], batch().pixels)


def test_a_single_bad_gradient_costs_one_step_and_leaves_weights_and_average_alone(
    tiny: Config, tmp_path: Path
) -> None:
    config = tiny(epochs=1)
    training = prepare(
        config,
        run=RunFolder(tmp_path / "run"),
        splits=open_splits(config),
        fabric=launch(config),
        console=Console(quiet=True),
    )
    poison = iter([1.0, float("nan")])
    parameter = next(parameter for parameter in training.stepper.detector.parameters() if parameter.requires_grad)
    parameter.register_hook(lambda gradient: gradient * next(poison))
    facts = training.fit().facts
    assert facts.skipped_steps == 1
    assert training.stepper.ema is not None
    assert int(training.stepper.ema.n_averaged) == 1
    assert "1 of 2 steps skipped" in facts.warnings["skipped_steps"]
    assert (tmp_path / "run" / "nonfinite" / "step_2" / "report.json").is_file()
