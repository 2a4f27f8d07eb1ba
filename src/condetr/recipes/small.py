"""Recipes for a laptop: from scratch on small scenes, and from pretrained weights on small real data."""

from condetr.backbones.resnet import SmallResNetConfig
from condetr.backbones.timm import TimmConfig
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.ema import EmaConfig
from condetr.engine.optim import CosineScheduleConfig, OptimizerConfig

TINY_BACKBONE = SmallResNetConfig()
TINY_QUERIES, TINY_DIM, TINY_FEEDFORWARD, TINY_ENCODER, TINY_DECODER = 50, 128, 512, 2, 3


def conditional_detr_tiny() -> TrainConfig:
    """Conditional DETR from scratch on scenes of 128x128, minutes on two cores."""
    return TrainConfig(
        detector=ConditionalDetrConfig(
            backbone=TINY_BACKBONE,
            num_queries=TINY_QUERIES,
            dim=TINY_DIM,
            feedforward_dim=TINY_FEEDFORWARD,
            encoder_layers=TINY_ENCODER,
            decoder_layers=TINY_DECODER,
            dropout=0.0,
        ),
        data=DataConfig(
            transform=LightTransformConfig(),
            batch_size=16,
            eval_batch_size=32,
            workers=0,
            cache_mb=1024,
        ),
        optimizer=OptimizerConfig(lr=4e-4, backbone_lr=4e-4),
        schedule=CosineScheduleConfig(warmup_steps=100, final_factor=0.01),
        ema=EmaConfig(decay=0.998),
        epochs=7,
    )


def detr_tiny() -> TrainConfig:
    """DETR equal to conditional_detr_tiny in everything but the decoder's attention."""
    from dataclasses import replace

    return replace(
        conditional_detr_tiny(),
        detector=DetrConfig(
            backbone=TINY_BACKBONE,
            num_queries=TINY_QUERIES,
            dim=TINY_DIM,
            feedforward_dim=TINY_FEEDFORWARD,
            encoder_layers=TINY_ENCODER,
            decoder_layers=TINY_DECODER,
            dropout=0.0,
            scores="sigmoid",
            offset_regression=True,
        ),
    )


def conditional_detr_mobilenet() -> TrainConfig:
    """Conditional DETR on MobileNetV2 for small real data on a laptop."""
    return TrainConfig(
        detector=ConditionalDetrConfig(
            backbone=TimmConfig(name="mobilenetv2_100", output_stride=16, weights="hub"),
            num_queries=100,
            dim=128,
            feedforward_dim=512,
            encoder_layers=2,
            decoder_layers=3,
            dropout=0.0,
        ),
        data=DataConfig(
            transform=LightTransformConfig(size_hw=(320, 320)),
            batch_size=8,
            workers=0,
            cache_mb=1024,
        ),
        optimizer=OptimizerConfig(lr=4e-4, backbone_lr=1e-4),
        schedule=CosineScheduleConfig(warmup_steps=100, final_factor=0.01),
        ema=EmaConfig(decay=0.998),
        epochs=70,
        evaluate_every=5,
    )
