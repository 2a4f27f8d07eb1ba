"""Deformable DETR on COCO, for `condetr train NAME --data COCO`: the rows of other papers' tables, and what came after.

With one level, as in Conditional DETR's table 1; with four, as in its table 2; refined and in two stages, as the
authors' repository gives their AP. Common to all: AdamW at 2e-4 (backbone, reference points and sampling offsets 2e-5),
32 images a step, weight decay 1e-4, gradient norm clipped at 0.1, the rate dropped to a tenth after 40 of 50 epochs.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import OptimizerConfig, StepScheduleConfig
from condetr.recipes.cost import PublishedCost


class Row(NamedTuple):
    """A variant, its published AP, and its published parameters and multiply-adds."""

    name: str
    title: str
    changes: dict[str, Any]
    dilation: bool
    ap: float
    cost: PublishedCost
    epochs: int = 50


SINGLE, REFINED = {"num_levels": 1}, {"box_refinement": True}
TWO_STAGE = REFINED | {"two_stage": True}

ROWS = (
    Row("deformable_detr_ss_r50_50e", "Deformable DETR-R50-SS", SINGLE, False, 0.394, PublishedCost(34, 78)),
    Row("deformable_detr_ss_dc5_r50_50e", "Deformable DETR-DC5-R50-SS", SINGLE, True, 0.415, PublishedCost(34, 128)),
    Row("deformable_detr_r50_50e", "Deformable DETR-R50", {}, False, 0.438, PublishedCost(40, 173)),
    Row(
        "deformable_detr_r50_50e_refined",
        "Deformable DETR-R50 with box refinement",
        REFINED,
        False,
        0.462,
        PublishedCost(41, 173),
    ),
    Row(
        "deformable_detr_r50_50e_2stage",
        "Deformable DETR-R50 in two stages",
        TWO_STAGE,
        False,
        0.469,
        PublishedCost(41, 173),
    ),
)


def train_config(row: Row) -> TrainConfig:
    """Return the complete settings of a row."""
    detector = DeformableDetrConfig(backbone=ResNetConfig(depth=50, dilation=row.dilation))
    return TrainConfig(
        detector=replace(detector, **row.changes),
        data=DataConfig(batch_size=32, micro_batch_size=1 if row.dilation else 2),
        optimizer=OptimizerConfig(lr=2e-4, backbone_lr=2e-5, slow=("reference_points", "sampling_offsets")),
        schedule=StepScheduleConfig(drop_epoch=40),
        epochs=row.epochs,
        precision="32-true",
    )
