"""The changes of a recipe that are tried, each alone or several at once."""

from dataclasses import dataclass

from benchmarks.training import with_rates
from condetr.config import override
from condetr.engine.config import TrainConfig
from condetr.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Change:
    """Settings that differ from the recipe's."""

    settings: tuple[str, ...] = ()
    rates: float = 1.0
    """By which both learning rates are multiplied."""
    costs: bool = False
    """Whether a step takes another time than the recipe's."""


def _dense(**probabilities: float) -> Change:
    settings = tuple(f"data.transform.dense.{name}={value}" for name, value in probabilities.items())
    return Change(settings=settings, costs=True)


def _costly(*settings: str) -> Change:
    return Change(settings=settings, costs=True)


def _schedule(kind: str, *settings: str) -> Change:
    return Change(settings=tuple(f"schedule.{each}" for each in (f"kind={kind}", "warmup_steps=200", *settings)))


def _loss(kind: str, weight: float) -> Change:
    return Change(
        settings=(f"detector.criterion.classification_loss={kind}", f"detector.criterion.classification={weight}")
    )


def _muon(rate: float) -> Change:
    return _costly("optimizer.kind=muon", f"optimizer.muon_rate={rate}")


CHANGES: dict[str, Change] = {
    "recipe": Change(),
    # Rates and steps.
    "rate2": Change(rates=2.0),
    "rate4": Change(rates=4.0),
    "batch4": _costly("data.batch_size=4"),
    "batch16": _costly("data.batch_size=16"),
    "linear": _schedule("linear"),
    "cosine": _schedule("cosine"),
    "wsd": _schedule("wsd", "decay_to=0.95", "final_factor=0.02"),
    # Averages of about 100 and 500 steps.
    "ema99": Change(settings=("ema.decay=0.99",)),
    "ema998": Change(settings=("ema.decay=0.998",)),
    # Losses, at the weights that were published or around them.
    "weight6": Change(settings=("detector.criterion.classification=6",)),
    "mal1": _loss("mal", 1),
    "mal2": _loss("mal", 2),
    "mal4": _loss("mal", 4),
    "psl6": _loss("psl", 6),
    "ia_bce1": _loss("ia_bce", 1),
    "ia_bce2": _loss("ia_bce", 2),
    # Optimizers.
    "muon5": _muon(5),
    "muon10": _muon(10),
    "muon20": _muon(20),
    # Data.
    "mosaic": _dense(mosaic=0.5),
    "mixup": _dense(mixup=0.5),
    "copy_blend": _dense(copy_blend=0.5),
    "zoom": _dense(zoom_out=0.5, iou_crop=0.8),
    "dense": _dense(mosaic=0.5, zoom_out=0.5, iou_crop=0.8, mixup=0.5, copy_blend=0.5),
    # Queries.
    "groups1": _costly("detector.query_groups=1"),
    "groups2": _costly("detector.query_groups=2"),
    "groups4": _costly("detector.query_groups=4"),
    "denoising3": _costly("detector.denoising_groups=3"),
    # The backbone and its images.
    "stride8": _costly("detector.backbone.output_stride=8"),
    "stride32": _costly("detector.backbone.output_stride=32"),
    "size256": _costly("data.transform.size_hw=[256,256]"),
    "backbone_rate": Change(settings=("optimizer.backbone_lr=0.0004",)),
    "frozen0": _costly("detector.backbone.frozen_stages=0"),
    "frozen3": _costly("detector.backbone.frozen_stages=3"),
    "queries300": _costly("detector.num_queries=300"),
}


def changed(config: TrainConfig, name: str) -> TrainConfig:
    """Return the settings with a change, or with several joined by `+`; raises InputError for an unknown one."""
    for part in name.split("+"):
        if part not in CHANGES:
            raise InputError(f"there is no change {part!r}; there are {', '.join(CHANGES)}, also joined by +")
        change = CHANGES[part]
        config = override(with_rates(config, change.rates), change.settings)
    return config


def costly_part(name: str) -> str:
    """Return the changes of a joined name whose steps take another time than the recipe's, joined again."""
    return "+".join(part for part in name.split("+") if CHANGES[part].costs)
