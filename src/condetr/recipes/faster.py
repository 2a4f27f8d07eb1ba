"""Conditional DETR in fewer epochs than the paper's: training aids that do not change the exported detector.

Groups of queries are Group DETR's (table 2: 11 groups, 12 epochs with the drop after 11, 16 images a step). Denoising
queries are DN-DETR's (5 groups), which published them for DAB-DETR only. On a small detector, both together save the
most epochs (`benchmarks/convergence`).
"""

from dataclasses import replace
from typing import Any, NamedTuple

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import StepScheduleConfig
from condetr.recipes.cost import PublishedCost


class Row(NamedTuple):
    """A schedule with or without training aids, and its published AP."""

    name: str
    title: str
    aids: dict[str, Any]
    dilation: bool
    epochs: int
    ap: float | None
    cost: PublishedCost | None = None


GROUPS, DENOISING = {"query_groups": 11}, {"denoising_groups": 5}

ROWS = (
    Row("conditional_detr_r50_12e", "Conditional DETR-R50", {}, False, 12, 0.326),
    Row("conditional_detr_r50_12e_g11", "Conditional DETR-R50 with query groups", GROUPS, False, 12, 0.376),
    Row("conditional_detr_r50_50e_g11", "Conditional DETR-R50 with query groups", GROUPS, False, 50, 0.434),
    Row("conditional_detr_dc5_r50_12e", "Conditional DETR-DC5-R50", {}, True, 12, 0.364),
    Row("conditional_detr_dc5_r50_12e_g11", "Conditional DETR-DC5-R50 with query groups", GROUPS, True, 12, 0.412),
    Row("conditional_detr_r50_12e_dn5", "Conditional DETR-R50 with denoising", DENOISING, False, 12, None),
    Row("conditional_detr_r50_12e_g11_dn5", "Conditional DETR-R50 with both", GROUPS | DENOISING, False, 12, None),
)

DROP_EPOCHS = {12: 11, 50: 40}


def train_config(row: Row) -> TrainConfig:
    """Return the complete settings of a row."""
    detector = ConditionalDetrConfig(backbone=ResNetConfig(depth=50, dilation=row.dilation))
    return TrainConfig(
        detector=replace(detector, **row.aids),
        data=DataConfig(micro_batch_size=1 if row.dilation else 2),
        schedule=StepScheduleConfig(drop_epoch=DROP_EPOCHS[row.epochs]),
        epochs=row.epochs,
        precision="32-true",
    )
