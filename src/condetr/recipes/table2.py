"""The rows of Conditional DETR's table 2 that are Faster R-CNN (COCO train2017 to val2017).

The rows of 36 epochs are detectron2's 3x schedule (40.2 and 42.0 AP in its model zoo), those of 108 epochs DETR's "+"
baselines, whose training is not published. Here all of them take 16 images a step and the rate drops to a tenth once,
after 7/9 of the epochs as in 3x; the optimizer is AdamW at DETR's rates after 1,000 steps of warm-up instead of SGD,
the augmentation is DETR's, crops included, and the box losses are smooth L1 without GIoU. So the AP of these rows is
what to compare with, not what was measured.
"""

from typing import Literal, NamedTuple

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.faster_rcnn import FasterRcnnConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import StepScheduleConfig
from condetr.recipes.cost import PublishedCost


class Row(NamedTuple):
    """One row of table 2."""

    depth: Literal[50, 101]
    epochs: Literal[36, 108]
    ap: float

    @property
    def name(self) -> str:
        """The recipe's name, e.g. `faster_rcnn_r50_36e`."""
        return f"faster_rcnn_r{self.depth}_{self.epochs}e"

    @property
    def title(self) -> str:
        """The model's name in the paper."""
        return f"Faster R-CNN-FPN-R{self.depth}"

    @property
    def cost(self) -> PublishedCost:
        """Parameters and multiply-adds as the paper gives them."""
        return {50: PublishedCost(42, 180), 101: PublishedCost(60, 246)}[self.depth]


ROWS = (Row(50, 36, 0.402), Row(50, 108, 0.420), Row(101, 36, 0.420), Row(101, 108, 0.440))

DROP_EPOCHS = {36: 28, 108: 84}


def train_config(row: Row) -> TrainConfig:
    """Return the complete settings of a row."""
    return TrainConfig(
        detector=FasterRcnnConfig(backbone=ResNetConfig(depth=row.depth)),
        data=DataConfig(micro_batch_size=2),
        schedule=StepScheduleConfig(drop_epoch=DROP_EPOCHS[row.epochs], warmup_steps=1000),
        epochs=row.epochs,
        precision="32-true",
    )
