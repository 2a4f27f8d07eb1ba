"""Recipes for a laptop: from scratch on small scenes, and from pretrained weights on small real data."""

from dataclasses import replace
from typing import Any

from condetr.backbones.resnet import SmallResNetConfig
from condetr.backbones.timm import TimmConfig
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.detectors.faster_rcnn import FasterRcnnConfig
from condetr.detectors.fcos import FcosConfig
from condetr.detectors.tsp_fcos import TspFcosConfig
from condetr.detectors.tsp_rcnn import TspRcnnConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import EmaConfig, OptimizerConfig, StepScheduleConfig
from condetr.losses.criterion import CriterionConfig

TINY: dict[str, Any] = {
    "backbone": SmallResNetConfig(widths=(24, 48, 96), blocks=(1, 2)),
    "num_queries": 50,
    "dim": 128,
    "num_heads": 4,
    "feedforward_dim": 256,
    "encoder_layers": 1,
    "decoder_layers": 3,
    "dropout": 0.0,
    # Objects are located long before they are classified. With the paper's weight of 2 and a rate of 4e-4, the final AP
    # was 0.558 and AP50 0.762; with a weight of 6, they were 0.609 and 0.879; with a rate of 8e-4 too, 0.638 and 0.898.
    "criterion": CriterionConfig(classification=6.0),
}
"""Settings of both tiny detectors. Stride 8: with the 64 cells of stride 16, AP after 1,000 steps is a third."""


MOBILENET: dict[str, Any] = {
    "backbone": TimmConfig(name="mobilenetv2_100", output_stride=16, frozen_stages=2, weights="hub"),
    "num_queries": 100,
    "dim": 128,
    "num_heads": 4,
    "feedforward_dim": 512,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "dropout": 0.0,
}
"""What the detectors for small real data are made of."""


def conditional_detr_tiny() -> TrainConfig:
    """Conditional DETR from scratch on scenes of 128x128, minutes on two cores."""
    return TrainConfig(
        detector=ConditionalDetrConfig(**TINY),
        data=DataConfig(
            transform=LightTransformConfig(vertical_flip=0.5), eval_batch_size=32, workers=0, cache_mb=1024
        ),
        # A new backbone needs a larger rate: with 4e-4 for both and no vertical flips, AP after 1,500 steps
        # was 0.24 instead of 0.29.
        optimizer=OptimizerConfig(lr=8e-4, backbone_lr=2.4e-3),
        schedule=StepScheduleConfig(drop_epoch=5, warmup_steps=200),
        ema=EmaConfig(decay=0.998),
        epochs=6,
    )


def detr_tiny() -> TrainConfig:
    """DETR equal to conditional_detr_tiny in everything but the decoder's attention."""
    return replace(conditional_detr_tiny(), detector=DetrConfig(**TINY, scores="sigmoid", offset_regression=True))


def conditional_detr_mobilenet() -> TrainConfig:
    """Conditional DETR on a pretrained MobileNetV2, for small real data on a laptop."""
    return TrainConfig(
        detector=ConditionalDetrConfig(
            **MOBILENET,
            # On BCCD, AP50 after 60 epochs is 0.71 instead of 0.66, and each epoch takes a third longer.
            query_groups=3,
        ),
        data=DataConfig(
            transform=LightTransformConfig(
                size_hw=(320, 320),
                scale=(0.8, 1.25),
                min_visible=0.3,
                brightness=0.2,
                contrast=0.2,
                saturation=0.2,
            ),
            batch_size=8,
            workers=0,
            cache_mb=1024,
        ),
        optimizer=OptimizerConfig(lr=4e-4, backbone_lr=1e-4),
        schedule=StepScheduleConfig(drop_epoch=140, warmup_steps=200),
        ema=EmaConfig(decay=0.999),
        epochs=150,
        evaluate_every=10,
    )


def detr_mobilenet() -> TrainConfig:
    """DETR equal to conditional_detr_mobilenet in everything but the detector."""
    return replace(
        conditional_detr_mobilenet(), detector=DetrConfig(**MOBILENET, scores="sigmoid", offset_regression=True)
    )


def deformable_detr_mobilenet() -> TrainConfig:
    """Deformable DETR equal to conditional_detr_mobilenet in everything but the detector."""
    return replace(conditional_detr_mobilenet(), detector=DeformableDetrConfig(**MOBILENET))


PYRAMID = TimmConfig(name="mobilenetv2_100", frozen_stages=2, weights="hub")
"""The backbone with all of its strides, for a pyramid; the transformers read one map of stride 16."""


def fcos_mobilenet() -> TrainConfig:
    """FCOS equal to conditional_detr_mobilenet in everything but the detector."""
    return replace(conditional_detr_mobilenet(), detector=FcosConfig(backbone=PYRAMID, dim=128, convolutions=2))


def faster_rcnn_mobilenet() -> TrainConfig:
    """Faster R-CNN equal to conditional_detr_mobilenet in everything but the detector."""
    detector = FasterRcnnConfig(backbone=PYRAMID, dim=128, hidden_dim=512, proposals=300, sampled_regions=128)
    return replace(conditional_detr_mobilenet(), detector=detector)


ENCODER: dict[str, Any] = {
    "hidden_dim": 128,
    "num_heads": 4,
    "feedforward_dim": 512,
    "encoder_layers": 2,
    "dropout": 0.0,
}
"""What looks at points or regions, as wide and deep as the transformers' encoder."""


def tsp_fcos_mobilenet() -> TrainConfig:
    """TSP-FCOS equal to conditional_detr_mobilenet in everything but the detector."""
    detector = TspFcosConfig(backbone=PYRAMID, dim=128, convolutions=2, proposals=300, **ENCODER)
    return replace(conditional_detr_mobilenet(), detector=detector)


def tsp_rcnn_mobilenet() -> TrainConfig:
    """TSP-RCNN equal to conditional_detr_mobilenet in everything but the detector."""
    detector = TspRcnnConfig(backbone=PYRAMID, dim=128, proposals=300, sampled_regions=300, **ENCODER)
    return replace(conditional_detr_mobilenet(), detector=detector)
