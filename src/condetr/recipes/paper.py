"""The rows of Conditional DETR's table 1 (COCO train2017 to val2017), for `condetr train NAME --data COCO`.

All of them use AdamW at 1e-4 (backbone 1e-5), weight decay 1e-4, gradient norm clipped at 0.1, one drop of the rate to
a tenth, the augmentation of DETR, no warm-up, and fp32. A step has 16 images (8 with DC5), as on the authors' 8 GPUs;
on one GPU, gradients are accumulated.
"""

from typing import Literal, NamedTuple

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import StepScheduleConfig
from condetr.recipes.cost import PublishedCost


class Row(NamedTuple):
    """One row of table 1."""

    detector: Literal["conditional_detr", "detr"]
    depth: Literal[50, 101]
    dilation: bool
    epochs: int
    ap: float

    @property
    def name(self) -> str:
        """The recipe's name, e.g. `conditional_detr_dc5_r50_50e`."""
        return f"{self.detector}_{'dc5_' if self.dilation else ''}r{self.depth}_{self.epochs}e"

    @property
    def title(self) -> str:
        """The model's name in the paper."""
        detector = {"conditional_detr": "Conditional DETR", "detr": "DETR"}[self.detector]
        return f"{detector}-{'DC5-' if self.dilation else ''}R{self.depth}"

    @property
    def cost(self) -> PublishedCost:
        """Parameters and multiply-adds as the paper gives them."""
        return COSTS[self.detector, self.depth, self.dilation]


COSTS = {
    ("detr", 50, False): PublishedCost(41, 86),
    ("detr", 50, True): PublishedCost(41, 187),
    ("detr", 101, False): PublishedCost(60, 152),
    ("detr", 101, True): PublishedCost(60, 253),
    ("conditional_detr", 50, False): PublishedCost(44, 90),
    ("conditional_detr", 50, True): PublishedCost(44, 195),
    ("conditional_detr", 101, False): PublishedCost(63, 156),
    ("conditional_detr", 101, True): PublishedCost(63, 262),
}

TABLE_1 = (
    Row("conditional_detr", 50, False, 50, 0.409),
    Row("conditional_detr", 50, False, 75, 0.421),
    Row("conditional_detr", 50, False, 108, 0.430),
    Row("conditional_detr", 50, True, 50, 0.438),
    Row("conditional_detr", 50, True, 75, 0.445),
    Row("conditional_detr", 50, True, 108, 0.451),
    Row("conditional_detr", 101, False, 50, 0.428),
    Row("conditional_detr", 101, False, 75, 0.437),
    Row("conditional_detr", 101, False, 108, 0.445),
    Row("conditional_detr", 101, True, 50, 0.450),
    Row("conditional_detr", 101, True, 75, 0.456),
    Row("conditional_detr", 101, True, 108, 0.459),
    Row("detr", 50, False, 50, 0.349),
    Row("detr", 50, False, 500, 0.420),
    Row("detr", 50, True, 50, 0.367),
    Row("detr", 50, True, 500, 0.433),
    Row("detr", 101, False, 50, 0.369),
    Row("detr", 101, False, 500, 0.435),
    Row("detr", 101, True, 50, 0.386),
    Row("detr", 101, True, 500, 0.449),
)

DROP_EPOCHS = {50: 40, 75: 60, 108: 80, 500: 400}


def train_config(row: Row) -> TrainConfig:
    """Return the complete settings of a row."""
    backbone = ResNetConfig(depth=row.depth, dilation=row.dilation)
    is_detr = row.detector == "detr"
    return TrainConfig(
        detector=DetrConfig(backbone=backbone) if is_detr else ConditionalDetrConfig(backbone=backbone),
        data=DataConfig(batch_size=8, micro_batch_size=1) if row.dilation else DataConfig(micro_batch_size=2),
        schedule=StepScheduleConfig(drop_epoch=DROP_EPOCHS[row.epochs]),
        epochs=row.epochs,
        precision="32-true",
    )
