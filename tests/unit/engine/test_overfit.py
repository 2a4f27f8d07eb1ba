from dataclasses import replace
from pathlib import Path

from condetr.api import fit as train
from condetr.backbones.resnet import SmallResNetConfig
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.fcos import FcosConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import CosineScheduleConfig, OptimizerConfig
from condetr.scenes.shapes import write_scenes

CONFIG = TrainConfig(
    detector=ConditionalDetrConfig(
        backbone=SmallResNetConfig(widths=(16, 32, 64), blocks=(1, 1)),
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


def test_eight_images_are_learnt_by_heart(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", num_images=8, seed=5, size=64)
    config = replace(CONFIG, data=replace(CONFIG.data, path=str(tmp_path / "scenes")))
    result = train(config, out=tmp_path / "run")
    assert result.results.AP > 0.9


def test_points_learn_eight_images_by_heart_too(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", num_images=8, seed=5, size=64)
    backbone = SmallResNetConfig(widths=(16, 32, 64), blocks=(1, 1))
    config = replace(
        CONFIG,
        detector=FcosConfig(backbone=backbone, levels=2, dim=64, convolutions=1),
        data=replace(CONFIG.data, path=str(tmp_path / "scenes")),
        optimizer=OptimizerConfig(lr=2e-3, backbone_lr=2e-3, clip_norm=1.0),
        epochs=150,
        evaluate_every=150,
    )
    assert train(config, out=tmp_path / "run").results.AP > 0.9
