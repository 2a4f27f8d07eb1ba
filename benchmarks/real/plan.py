"""The runs of the benchmark, and the only settings in which they differ."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import NamedTuple

from benchmarks.training import with_rates
from condetr.engine.config import TrainConfig
from condetr.recipes.registry import recipe

LENGTHS = (Fraction(1, 8), Fraction(1, 4), Fraction(1, 2), Fraction(1))
"""Of the longest schedule; all branch off one training at a constant rate."""
STABLE = Fraction(4, 5)
"""Share of a schedule before its rate falls."""
TUNED_LENGTH = Fraction(1, 4)
RATES_AGAIN = (0.5, 1.0, 2.0)
"""By which the rate of the best trial is multiplied at the longest schedule."""
SHARES_LENGTH = Fraction(1, 2)
"""Schedule of the trainings on a share of the images, which has as many steps as on all of them."""
TUNING_SEED = 0

HELD = (
    "data.transform.size_hw=[224,224]",
    "data.batch_size=16",
    "data.workers=0",
    "data.train_split=train",
    "data.val_split=val",
    "ema.decay=0.998",
    "evaluate_every=100000",  # at the end alone
    "keep=last",
    "loggers=[]",
)
"""What all trainings have in common, besides the small recipes' backbone, width, layers, queries and augmentation."""


class Tuning(NamedTuple):
    """What is tuned: the recipe's rates times `rate`, and a detector's own settings."""

    rate: float
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The part of a run's name."""
        values = (setting.rpartition(".")[2].replace("=", "") for setting in self.settings)
        return "-".join([f"rate{self.rate:g}", *values])


def _classes(weight: float) -> str:
    return f"detector.criterion.classification={weight:g}"


def _dropout(share: float) -> str:
    return f"detector.dropout={share:g}"


def _decay(weight: float) -> str:
    return f"optimizer.weight_decay={weight:g}"


def _half(rates: Sequence[float]) -> tuple[Tuning, ...]:
    """Return half of all combinations: each value of one setting with each of another, in pairs."""
    pairs = (((2.0, 0.0), (6.0, 0.1)), ((2.0, 0.1), (6.0, 0.0)))
    return tuple(
        Tuning(rate, (_classes(weight), _dropout(dropout)))
        for number, rate in enumerate(rates)
        for weight, dropout in pairs[number % 2]
    )


RATES = (0.5, 1.0, 2.0, 4.0)
TRANSFORMER = _half(RATES)
DENSE = tuple(Tuning(rate, (_decay(weight),)) for rate, weight in product(RATES, (1e-4, 1e-2)))
"""They have neither dropout nor a weight of the classification loss."""
TSP = tuple(Tuning(rate, (_dropout(share),)) for rate, share in product(RATES, (0.0, 0.1)))


class Detector(NamedTuple):
    """A detector, and the trials of its tuning: as many for each."""

    title: str
    recipe: str
    trials: tuple[Tuning, ...]
    settings: tuple[str, ...] = ()
    tuned_as: str | None = None
    """The detector whose tuning it takes over."""


_PLAIN = ("detector.query_groups=1",)
DETECTORS: dict[str, Detector] = {
    "detr": Detector(
        "DETR",
        "detr_mobilenet",
        _half([rate / 2 for rate in RATES]),
        ("detector.scores=softmax", "detector.offset_regression=false"),  # its paper's
    ),
    "conditional_detr": Detector("Conditional DETR", "conditional_detr_mobilenet", TRANSFORMER, _PLAIN),
    "conditional_detr_groups": Detector(
        "Conditional DETR, query groups in training",
        "conditional_detr_mobilenet",
        TRANSFORMER,
        ("detector.query_groups=3",),
        tuned_as="conditional_detr",
    ),
    "deformable_detr_single": Detector(
        "Deformable DETR, one level", "deformable_detr_mobilenet", TRANSFORMER, ("detector.num_levels=1",)
    ),
    "deformable_detr": Detector("Deformable DETR", "deformable_detr_mobilenet", TRANSFORMER),
    "fcos": Detector("FCOS", "fcos_mobilenet", DENSE),
    "faster_rcnn": Detector("Faster R-CNN", "faster_rcnn_mobilenet", DENSE),
    "tsp_fcos": Detector("TSP-FCOS", "tsp_fcos_mobilenet", TSP),
    "tsp_rcnn": Detector("TSP-RCNN", "tsp_rcnn_mobilenet", TSP),
}


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on a data set."""

    longest: int
    """Epochs of the longest schedule, a multiple of 40."""
    seeds: Mapping[str, int]
    """How many, for each detector that is trained."""
    shares: Mapping[Fraction, tuple[str, ...]]
    """Detectors that are trained on a share of the images, too."""
    settings: tuple[str, ...] = ()


PAIR = ("detr", "conditional_detr")
DATA: dict[str, Data] = {
    "bccd": Data(
        longest=160,
        seeds={name: 5 if name in PAIR else 3 for name in DETECTORS},
        shares={Fraction(1, 4): PAIR, Fraction(1, 2): PAIR},
        settings=("data.transform.vertical_flip=0.5",),
    ),
    "neu-det": Data(
        longest=40,
        seeds=dict.fromkeys((*PAIR, "deformable_detr", "faster_rcnn"), 3),
        shares={},
        settings=("data.transform.vertical_flip=0.5",),
    ),
    "facemask": Data(longest=80, seeds=dict.fromkeys((*PAIR, "deformable_detr", "faster_rcnn"), 3), shares={}),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training."""

    data: str
    detector: str
    tuning: Tuning
    epochs: int
    seed: int
    share: Fraction = Fraction(1)

    @property
    def folder(self) -> str:
        """The name of the data with this share of its training images."""
        return self.data if self.share == 1 else f"{self.data}-{round(100 * self.share)}percent"

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self._name(f"{self.epochs}e")

    @property
    def trunk_name(self) -> str:
        """The folder of the training at a constant rate from which schedules of all lengths branch off."""
        return self._name("trunk")

    def _name(self, length: str) -> str:
        return f"{self.folder}/{self.detector}-{self.tuning.name}-{length}-seed{self.seed}"

    @property
    def stable_epochs(self) -> int:
        """The epochs before the rate falls."""
        return int(STABLE * self.epochs)

    def trunk_config(self, *, weights: Path) -> TrainConfig:
        """Return the settings of the epochs before the rate falls, which schedules of all lengths have in common."""
        constant = (f"epochs={self.stable_epochs}", "schedule.kind=step", f"schedule.drop_epoch={self.stable_epochs}")
        return replace(self._config(*constant, weights=weights), recipe=self.trunk_name)

    def config(self, *, weights: Path) -> TrainConfig:
        """Return the complete settings; `weights` are those of the backbone."""
        falling = (f"epochs={self.epochs}", "schedule.kind=wsd", f"schedule.decay_from={float(STABLE)}")
        return replace(self._config(*falling, weights=weights), recipe=self.name)

    def _config(self, *length: str, weights: Path) -> TrainConfig:
        detector = DETECTORS[self.detector]
        own = (*detector.settings, *DATA[self.data].settings, *self.tuning.settings)
        backbone = f"detector.backbone.weights={weights}"
        base = recipe(detector.recipe, backbone, *HELD, *own, *length, "schedule.warmup_steps=50", f"seed={self.seed}")
        return with_rates(base, self.tuning.rate)


def epochs_of(data: str, length: Fraction) -> int:
    """Return the epochs of a schedule."""
    return max(int(length * DATA[data].longest), 1)


def trials(data: str, detector: str) -> list[Run]:
    """Return the trials of a detector, none where it takes over another's tuning."""
    if DETECTORS[detector].tuned_as is not None:
        return []
    epochs = epochs_of(data, TUNED_LENGTH)
    return [
        Run(data=data, detector=detector, tuning=tuning, epochs=epochs, seed=TUNING_SEED)
        for tuning in DETECTORS[detector].trials
    ]


def rate_trials(data: str, detector: str, *, best: Tuning) -> list[Run]:
    """Return the trials of the rate at the longest schedule, around that of the best trial."""
    tunings = [best._replace(rate=best.rate * factor) for factor in RATES_AGAIN]
    epochs = epochs_of(data, Fraction(1))
    return [Run(data=data, detector=detector, tuning=tuning, epochs=epochs, seed=TUNING_SEED) for tuning in tunings]


def schedules(data: str, detector: str, *, best: Tuning) -> list[Run]:
    """Return complete schedules of all lengths and seeds."""
    return [
        Run(data=data, detector=detector, tuning=best, epochs=epochs_of(data, length), seed=seed)
        for seed in range(1, DATA[data].seeds[detector] + 1)
        for length in LENGTHS
    ]


def share_runs(data: str, detector: str, *, best: Tuning) -> list[Run]:
    """Return the trainings on a share of the images, with as many steps as on all of them."""
    epochs = epochs_of(data, SHARES_LENGTH)
    return [
        Run(data=data, detector=detector, tuning=best, epochs=round(epochs / share), seed=seed, share=share)
        for share, detectors in DATA[data].shares.items()
        if detector in detectors
        for seed in range(1, DATA[data].seeds[detector] + 1)
    ]


def chains(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Return the runs that share a trunk, the shortest first."""
    by_trunk: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.epochs):
        by_trunk.setdefault(run.trunk_name, []).append(run)
    yield from by_trunk.values()


def epochs_trained(runs: Sequence[Run]) -> float:
    """Return the epochs that the runs take, on all images; those before the fall of the rate are shared."""
    total = 0.0
    for chain in chains(runs):
        branches = sum(run.epochs - run.stable_epochs for run in chain)
        total += float(chain[0].share) * (chain[-1].stable_epochs + branches)
    return total
