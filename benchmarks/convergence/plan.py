"""The runs of the benchmark, and the only settings in which they differ.

All settings train on scenes of 128x128. `stride32` ends in a map of 64 cells; `dc5` dilates the last stage instead of
striding, which gives four times as many, as DC5 does in the paper. Both train from scratch with Conditional DETR's loss
weights. `few` and `few_dc5` are the same with an eighth of the scenes, so that schedules as long as the paper's can be
trained; `few_dc5_weighted` extends the search of `few_dc5` to a heavier classification loss for both detectors. The
others are `stride32` with one change: `weighted` has a heavier classification loss, tuned for both detectors,
`pretrained` has a backbone that was trained to classify objects, and `digits` has handwritten digits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from condetr.backbones.resnet import SmallResNetConfig
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import OptimizerConfig, StepScheduleConfig
from condetr.losses.criterion import CriterionConfig
from condetr.recipes.small import TINY

Setting = Literal["stride32", "few", "weighted", "dc5", "few_dc5", "few_dc5_weighted", "pretrained", "digits"]
FEW: Sequence[Setting] = ("few", "few_dc5", "few_dc5_weighted")
DILATED: Sequence[Setting] = ("dc5", "few_dc5", "few_dc5_weighted")
MAPS: dict[str, Sequence[Setting]] = {"stride32": ("stride32", "few"), "dc5": DILATED, "digits": ("digits",)}
"""Settings that provide a headline."""
FOLDERS: dict[Setting, Setting] = {"few_dc5_weighted": "few_dc5"}
"""Settings that share the runs of another one."""

PRETRAINED = "runs/convergence/backbone.safetensors"

TRAINING_IMAGES, FEW_TRAINING_IMAGES, VALIDATION_IMAGES, SCENES_SEED = 4000, 500, 500, 1
BATCH_SIZE = 16


class Tuning(NamedTuple):
    """The hyperparameters to tune for each detector."""

    lr: float
    classification: float = 2.0
    """Weight of the classification loss, beside 5 for L1 and 2 for GIoU."""
    dropout: float = 0.0


def _heavier(*rates: float) -> list[Tuning]:
    return [Tuning(lr, classification=6.0) for lr in rates]


_RATES = {
    "conditional_detr": [Tuning(2e-4), Tuning(4e-4), Tuning(8e-4)],
    "detr": [Tuning(1e-4), Tuning(2e-4), Tuning(4e-4)],
}
_FEW_DC5_RATES = {"conditional_detr": [Tuning(4e-4), Tuning(8e-4), Tuning(1.6e-3)], "detr": _RATES["detr"]}
_BEST_ON_FEW = {"conditional_detr": Tuning(4e-4), "detr": Tuning(2e-4)}
SEARCHED: dict[Setting, dict[str, list[Tuning]]] = {
    "stride32": {**_RATES, "detr_focal": _RATES["detr"]},
    "weighted": {
        "conditional_detr": [Tuning(4e-4, 16.0), *_heavier(2e-4, 4e-4, 8e-4, 1.6e-3)],
        "detr": [Tuning(2e-4, 16.0), *_heavier(1e-4, 2e-4, 4e-4, 8e-4)],
    },
    "dc5": {
        "conditional_detr": [*_RATES["conditional_detr"], Tuning(1.6e-3)],
        "detr": [*_RATES["detr"], Tuning(8e-4)],
    },
    "few": {side: [*_RATES[side], best._replace(dropout=0.1)] for side, best in _BEST_ON_FEW.items()},
    "few_dc5": _FEW_DC5_RATES,
    "few_dc5_weighted": {
        "conditional_detr": [*_FEW_DC5_RATES["conditional_detr"], *_heavier(4e-4, 8e-4, 1.6e-3)],
        "detr": [*_FEW_DC5_RATES["detr"], *_heavier(2e-4, 4e-4, 8e-4)],
    },
    "pretrained": _RATES,
    "digits": _RATES,
}
"""The search space: values around known good ones, and one more if the best was the largest or smallest.

With the focal loss DETR is far behind at stride 32, so the other settings leave it out. Few scenes are overfitted, so
on 64 cells the best rates are also tried with the paper's dropout.
"""
SEARCH_EPOCHS = {"conditional_detr": 8, "detr": 16, "detr_focal": 16}
FEW_SEARCH_EPOCHS = {"conditional_detr": 50, "detr": 150}
"""With an eighth of the scenes an epoch has an eighth of the steps."""
LONG_EPOCHS: dict[Setting, Sequence[int]] = {
    "stride32": (16, 48, 96, 144, 240),
    "few": (50, 150, 300, 500),
    "few_dc5": (50, 150, 300, 500),
    "few_dc5_weighted": (150, 500),
    "weighted": (48, 96),
    "dc5": (48,),
    "pretrained": (48,),
    "digits": (48,),
}
"""Complete schedules of DETR, including the drop of the learning rate."""
SHORT_EPOCHS: dict[Setting, Sequence[int]] = {
    "stride32": (4, 8, 12, 16, 24, 32, 40, 48),
    "few": (25, 50, 75, 108, 150),
    "few_dc5": (25, 50, 75, 108),
    "few_dc5_weighted": (25, 50, 75, 108),
    "weighted": (4, 8, 12, 16, 24),
    "dc5": (8, 12, 16, 20),
    "pretrained": (8, 12, 16),
    "digits": (8, 12, 16, 20, 24),
}
"""Complete schedules of Conditional DETR; the shortest that is as good as DETR's is determined from them."""
FASTER_EPOCHS = (8, 10, 12, 16, 20)
"""Complete schedules with training aids, to compare with longer ones without."""
ABLATION_EPOCHS = 8
SEEDS = (1, 2)

BACKBONE = SmallResNetConfig(widths=(24, 48, 96, 128), blocks=(1, 2, 1))

SIDES: dict[str, Callable[..., Any]] = {
    "conditional_detr": ConditionalDetrConfig,
    "detr": DetrConfig,
    "detr_focal": lambda **settings: DetrConfig(**settings, scores="sigmoid"),
}
"""Each detector with its paper's loss, and DETR with Conditional DETR's loss."""

FASTER: dict[str, dict[str, Any]] = {
    "groups": {"query_groups": 4},
    "denoising": {"denoising_groups": 4},
    "both": {"query_groups": 4, "denoising_groups": 4},
}
"""Training aids that do not change the exported detector."""

ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "CSQ": ("conditional_detr", {}),
    "CSQ-C": ("conditional_detr", {"spatial_query": "C"}),
    "CSQ-T": ("conditional_detr", {"spatial_query": "T"}),
    "CSQ-P": ("conditional_detr", {"spatial_query": "P"}),
    "CSQ-I": ("conditional_detr", {"spatial_query": "I"}),
    "scalar": ("conditional_detr", {"transformation": "scalar"}),
    "block": ("conditional_detr", {"transformation": "block"}),
    "full": ("conditional_detr", {"transformation": "full"}),
    "reference-learned": ("conditional_detr", {"reference": "learned"}),
    "reference-fixed": ("conditional_detr", {"reference": "fixed"}),
    "none": ("detr", {}),
    "OR": ("detr", {"offset_regression": True}),
    "FL": ("detr_focal", {}),
    "OR+FL": ("detr_focal", {"offset_regression": True}),
}
"""Tables 3 and 4 and figure 5; its identity is CSQ-P, its diagonal and table 4's last row are CSQ."""

PAPER: dict[str, float] = {
    "CSQ": 0.409,
    "CSQ-C": 0.371,
    "CSQ-T": 0.376,
    "CSQ-P": 0.378,
    "CSQ-I": 0.402,
    "scalar": 0.390,
    "block": 0.408,
    "full": 0.407,
    "reference-learned": 0.407,
    "reference-fixed": 0.368,
    "none": 0.349,
    "OR": 0.350,
    "FL": 0.353,
    "OR+FL": 0.369,
}
"""The paper's AP on COCO with R50 after 50 epochs."""

PUBLISHED: dict[str, dict[str, dict[int, float]]] = {
    "R50": {
        "conditional_detr": {12: 0.326, 50: 0.409, 75: 0.421, 108: 0.430},
        "detr": {50: 0.349, 150: 0.395, 500: 0.420},
    },
    "DC5-R50": {
        "conditional_detr": {12: 0.364, 50: 0.438, 75: 0.445, 108: 0.451},
        "detr": {50: 0.367, 500: 0.433},
    },
}
"""AP on COCO after complete schedules: the paper's table 1, 12 epochs from Group DETR, 150 from DETR's repository."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of the benchmark."""

    setting: Setting
    side: str
    """A key of SIDES."""
    variant: str = "plain"
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the detector that make the variant."""
    tuning: Tuning
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        """The name of the run's folder, from its detector and settings."""
        return self._name(f"{self.epochs}e")

    @property
    def trunk_name(self) -> str:
        """The folder of the run at a constant rate from which schedules of all lengths branch off."""
        return self._name("trunk")

    def _name(self, length: str) -> str:
        lr, classification, dropout = self.tuning
        rate = np.format_float_scientific(lr, trim="-", exp_digits=2)
        weight = "" if classification == Tuning(lr).classification else f"-class{classification:g}"
        drop = f"-dropout{dropout:g}" if dropout else ""
        folder = FOLDERS.get(self.setting, self.setting)
        return f"{folder}/{self.side}-{self.variant}-lr{rate}{weight}{drop}-{length}-seed{self.seed}"

    @property
    def drop_epoch(self) -> int:
        """The epochs before the learning rate drops: four fifths, as in the papers."""
        return max(self.epochs * 4 // 5, 1)

    def trunk_config(self) -> TrainConfig:
        """Return the settings of the epochs before the drop, which schedules of all lengths have in common."""
        return replace(self.config(), recipe=self.trunk_name, epochs=self.drop_epoch)

    def config(self) -> TrainConfig:
        """Return the complete settings."""
        lr, classification, dropout = self.tuning
        is_pretrained = self.setting == "pretrained"
        backbone = replace(BACKBONE, dilation=self.setting in DILATED, weights=PRETRAINED if is_pretrained else None)
        criterion = CriterionConfig(classification=classification)
        detector = SIDES[self.side](**{**TINY, "backbone": backbone, "dropout": dropout, "criterion": criterion})
        return TrainConfig(
            recipe=self.name,
            detector=replace(detector, **self.changes),
            data=DataConfig(
                transform=LightTransformConfig(vertical_flip=0.5),
                batch_size=BATCH_SIZE,
                eval_batch_size=32,
                workers=0,
                cache_mb=1024,
            ),
            optimizer=OptimizerConfig(lr=lr, backbone_lr=lr * (1 if is_pretrained else 3)),
            schedule=StepScheduleConfig(drop_epoch=self.drop_epoch, warmup_steps=200),
            epochs=self.epochs,
            evaluate_every=5 if self.setting in FEW else 1,
            seed=self.seed,
            loggers=(),
        )


def search_epochs(setting: Setting) -> Mapping[str, int]:
    """Return the length of the search runs of each detector."""
    return FEW_SEARCH_EPOCHS if setting in FEW else SEARCH_EPOCHS


def search(setting: Setting) -> Sequence[Run]:
    """Return the runs of the hyperparameter search for each detector."""
    epochs = search_epochs(setting)
    return [
        Run(setting=setting, side=side, tuning=tuning, epochs=epochs[side], seed=SEEDS[0])
        for side, tunings in SEARCHED[setting].items()
        for tuning in tunings
    ]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The best hyperparameters of the search."""

    tuning: dict[str, Tuning]
    """By side."""
    detr: str
    """DETR's better loss: `detr` or `detr_focal`."""


def long(setting: Setting, *, choice: Choice) -> Sequence[Run]:
    """Return DETR's long schedules, with the better of its two losses, tuned."""
    side = choice.detr
    return [
        Run(setting=setting, side=side, tuning=choice.tuning[side], epochs=epochs, seed=seed)
        for epochs in LONG_EPOCHS[setting]
        for seed in SEEDS
    ]


def schedules(setting: Setting, *, choice: Choice) -> Sequence[Run]:
    """Return complete schedules of Conditional DETR of increasing length."""
    return [
        _conditional(setting, choice=choice, epochs=epochs, seed=seed)
        for epochs in SHORT_EPOCHS[setting]
        for seed in SEEDS
    ]


def faster(setting: Setting, *, choice: Choice) -> Sequence[Run]:
    """Return the same with training aids."""
    return [
        replace(_conditional(setting, choice=choice, epochs=epochs, seed=seed), variant=name, changes=changes)
        for name, changes in FASTER.items()
        for epochs in FASTER_EPOCHS
        for seed in SEEDS
    ]


def ablations(setting: Setting, *, choice: Choice) -> Sequence[Run]:
    """Return the rows of tables 3 and 4 and figure 5, each with the hyperparameters of its detector."""
    return [
        Run(
            setting=setting,
            side=side,
            variant=name if changes else "plain",
            changes=changes,
            tuning=choice.tuning.get(side, choice.tuning["detr"]),
            epochs=ABLATION_EPOCHS,
            seed=seed,
        )
        for name, (side, changes) in ABLATIONS.items()
        for seed in SEEDS
    ]


def _conditional(setting: Setting, *, choice: Choice, epochs: int, seed: int) -> Run:
    side = "conditional_detr"
    return Run(setting=setting, side=side, tuning=choice.tuning[side], epochs=epochs, seed=seed)
