"""Twenty seeded steps of the whole training: data, augmentation, detector, matching, losses and optimizer.

The numbers change only together with the numerics, in the commit that says why.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from condetr.api import fit as train
from condetr.backbones.resnet import SmallResNetConfig
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import CosineScheduleConfig, OptimizerConfig
from condetr.scenes.shapes import write_scenes

CONFIG = TrainConfig(
    detector=ConditionalDetrConfig(
        backbone=SmallResNetConfig(widths=(8, 16, 16), blocks=(1, 1)),
        num_queries=10,
        dim=32,
        num_heads=4,
        feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
    ),
    data=DataConfig(transform=LightTransformConfig(), batch_size=4, workers=0, val_fraction=0.2),
    optimizer=OptimizerConfig(lr=1e-3, backbone_lr=1e-3),
    schedule=CosineScheduleConfig(warmup_steps=5),
    precision="32-true",
    loggers=(),
    epochs=5,
)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Return the mean loss of each of five epochs of four steps."""
    folder: Path = tmp_path_factory.mktemp("golden")
    write_scenes(folder / "scenes", num_images=20, seed=3, size=64)
    config = replace(CONFIG, data=replace(CONFIG.data, path=str(folder / "scenes")))
    result = train(config, out=folder / "run")
    assert result.facts.steps == 20
    rows = (folder / "run" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("loss")
    return [float(row.split(",")[column]) for row in rows[1:]]


def test_twenty_steps_give_the_recorded_losses(losses: list[float]) -> None:
    torch.testing.assert_close(losses, GOLDEN, rtol=1e-3, atol=0)


GOLDEN = [18.8902, 18.2321, 17.4070, 16.9059, 16.4253]
