from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from condetr.api import fit as train
from condetr.backbones.resnet import SmallResNetConfig
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.faster_rcnn import FasterRcnnConfig
from condetr.detectors.fcos import FcosConfig
from condetr.detectors.registry import DetectorConfig
from condetr.detectors.tsp_fcos import TspFcosConfig
from condetr.detectors.tsp_rcnn import TspRcnnConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import CosineScheduleConfig, OptimizerConfig
from condetr.scenes.shapes import write_scenes

BACKBONE = SmallResNetConfig(widths=(16, 32, 64), blocks=(1, 1))
FEW: dict[str, Any] = {"proposals": 50, "sampled_regions": 32}
ENCODER: dict[str, Any] = {"hidden_dim": 64, "num_heads": 4, "feedforward_dim": 64, "encoder_layers": 1, "dropout": 0.0}
CONFIG = TrainConfig(
    detector=ConditionalDetrConfig(
        backbone=BACKBONE,
        num_queries=20,
        dim=64,
        num_heads=4,
        feedforward_dim=64,
        encoder_layers=1,
        decoder_layers=2,
        dropout=0.0,
    ),
    data=DataConfig(
        transform=LightTransformConfig(horizontal_flip=0.0),
        train_split="train",
        val_split="train",
        batch_size=8,
        eval_batch_size=8,
        workers=0,
        cache_mb=16,
    ),
    optimizer=OptimizerConfig(lr=2e-3, backbone_lr=2e-3),
    schedule=CosineScheduleConfig(warmup_steps=20),
    epochs=400,
    evaluate_every=400,
    precision="32-true",
    loggers=(),
)


def test_eight_images_are_overfit(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", num_images=8, seed=5, size=64)
    config = replace(CONFIG, data=replace(CONFIG.data, path=str(tmp_path / "scenes")))
    result = train(config, out=tmp_path / "run")
    assert result.results.AP > 0.9


@pytest.mark.parametrize(
    ("detector", "epochs"),
    [
        (FcosConfig(backbone=BACKBONE, levels=2, dim=64, convolutions=1), 150),
        # The smallest objects have 4 pixels: with anchors of 32, six of the 34 are never proposed.
        (FasterRcnnConfig(backbone=BACKBONE, levels=2, dim=64, hidden_dim=128, anchor_strides=2.5, **FEW), 300),
        (TspFcosConfig(backbone=BACKBONE, levels=2, dim=64, convolutions=1, proposals=100, **ENCODER), 150),
        # On stride 8 and coarser ones.
        (TspRcnnConfig(backbone=BACKBONE, levels=2, dim=64, anchor_strides=0.75, **FEW | ENCODER), 120),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_points_and_regions_overfit_them_too(detector: DetectorConfig, epochs: int, tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", num_images=8, seed=5, size=64)
    config = replace(
        CONFIG,
        detector=detector,
        data=replace(CONFIG.data, path=str(tmp_path / "scenes")),
        optimizer=OptimizerConfig(lr=2e-3, backbone_lr=2e-3, clip_norm=1.0),
        epochs=epochs,
        evaluate_every=epochs,
    )
    assert train(config, out=tmp_path / "run").results.AP > 0.9
