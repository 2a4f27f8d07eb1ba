"""The rows of Conditional DETR's table 2 that are Faster R-CNN, TSP-FCOS and TSP-RCNN (COCO train2017 to val2017).

Faster R-CNN: the rows of 36 epochs are detectron2's 3x schedule (40.2 and 42.0 AP in its model zoo), those of 108
epochs DETR's "+" baselines, whose training is not published. Here all of them take 16 images a step and the rate drops
to a tenth once, after 7/9 of the epochs as in 3x; the optimizer is AdamW at DETR's rates after 1,000 steps of warm-up
instead of SGD, the augmentation is DETR's, crops included, and the box losses are smooth L1 without GIoU.

TSP: the rows of 36 epochs follow the authors' scripts, those of R101 by another depth alone. AdamW trains the encoder,
with its gradient clipped, and SGD all else; norms do not decay; both rates rise over 1,000 steps and drop after 2/3 and
8/9 of the training. The rows of 96 epochs, whose schedule is not known, have the same proportions. Unlike there, the
ResNet is torchvision's, with its strides and weights, the augmentation is DETR's, crops included (they cropped in the
rows of 96 epochs alone), and batch norms see the images of one process, accumulated batches one by one.

So the AP of all these rows is what to compare with, not what was measured.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.faster_rcnn import FasterRcnnConfig
from condetr.detectors.tsp_fcos import TspFcosConfig
from condetr.detectors.tsp_rcnn import TspRcnnConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import OptimizerConfig, SgdConfig, StepScheduleConfig
from condetr.recipes.cost import PublishedCost

DetectorKind = type[FasterRcnnConfig | TspFcosConfig | TspRcnnConfig]


class Row(NamedTuple):
    """One row of table 2."""

    kind: DetectorKind
    depth: Literal[50, 101]
    epochs: int
    ap: float

    @property
    def name(self) -> str:
        """The recipe's name, e.g. `faster_rcnn_r50_36e`."""
        return f"{self.kind().kind}_r{self.depth}_{self.epochs}e"

    @property
    def title(self) -> str:
        """The model's name in the paper."""
        return f"{TITLES[self.kind]}-R{self.depth}"

    @property
    def cost(self) -> PublishedCost:
        """Parameters and multiply-adds as the paper gives them."""
        return COSTS[self.kind, self.depth]


TITLES: dict[DetectorKind, str] = {
    FasterRcnnConfig: "Faster R-CNN-FPN",
    TspFcosConfig: "TSP-FCOS",
    TspRcnnConfig: "TSP-RCNN",
}

COSTS: dict[tuple[DetectorKind, int], PublishedCost] = {
    (FasterRcnnConfig, 50): PublishedCost(42, 180),
    (FasterRcnnConfig, 101): PublishedCost(60, 246),
    (TspFcosConfig, 50): PublishedCost(None, 189),
    (TspFcosConfig, 101): PublishedCost(None, 255),
    (TspRcnnConfig, 50): PublishedCost(None, 188),
    (TspRcnnConfig, 101): PublishedCost(None, 254),
}

ROWS = (
    Row(FasterRcnnConfig, 50, 36, 0.402),
    Row(FasterRcnnConfig, 50, 108, 0.420),
    Row(FasterRcnnConfig, 101, 36, 0.420),
    Row(FasterRcnnConfig, 101, 108, 0.440),
    Row(TspFcosConfig, 50, 36, 0.431),
    Row(TspRcnnConfig, 50, 36, 0.438),
    Row(TspRcnnConfig, 50, 96, 0.450),
    Row(TspFcosConfig, 101, 36, 0.444),
    Row(TspRcnnConfig, 101, 36, 0.448),
    Row(TspRcnnConfig, 101, 96, 0.465),
)

SGD_RATES: dict[DetectorKind, float] = {TspFcosConfig: 0.01, TspRcnnConfig: 0.02}


def train_config(row: Row) -> TrainConfig:
    """Return the complete settings of a row."""
    train_config_of: Callable[[Row], TrainConfig] = _tsp if row.kind in SGD_RATES else _faster_rcnn
    return train_config_of(row)


def _faster_rcnn(row: Row) -> TrainConfig:
    return TrainConfig(
        detector=FasterRcnnConfig(backbone=ResNetConfig(depth=row.depth)),
        data=DataConfig(micro_batch_size=2),
        schedule=StepScheduleConfig(drop_epoch=row.epochs * 7 // 9, warmup_steps=1000),
        epochs=row.epochs,
        precision="32-true",
    )


def _tsp(row: Row) -> TrainConfig:
    return TrainConfig(
        detector=row.kind(backbone=ResNetConfig(depth=row.depth)),
        data=DataConfig(micro_batch_size=4, group_by_aspect=True),
        optimizer=OptimizerConfig(
            lr=1e-4,
            norm_weight_decay=0.0,
            clip_norm=0.01,
            sgd=SgdConfig(lr=SGD_RATES[row.kind], all_but=("encoder",)),
        ),
        schedule=StepScheduleConfig(
            drop_epoch=row.epochs * 2 // 3, further_drop_epochs=(row.epochs * 8 // 9,), warmup_steps=1000
        ),
        epochs=row.epochs,
        precision="32-true",
    )
