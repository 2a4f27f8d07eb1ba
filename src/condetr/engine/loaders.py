"""The data of a training: its splits, and the loaders that divide them among processes and steps."""

from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from typing import NamedTuple

from condetr.data.batch import Batch
from condetr.data.dataset import Finding
from condetr.data.dense import Dense, DenseConfig, Phase
from condetr.data.loader import EvalLoader, TrainLoader, eval_loader, train_loader
from condetr.data.sources import DataSplits
from condetr.detectors.detector import Detector
from condetr.doctor.plan import Plan
from condetr.doctor.quick import quick_findings
from condetr.engine.config import TrainConfig
from condetr.errors import InputError
from condetr.words import counted

LARGEST_CLEAN_FACTOR = 0.5
"""Of the learning rate, where clean images begin at the end of a training with dense ones: DEIM's."""


class Loaders(NamedTuple):
    """The loaders of one process."""

    train: TrainLoader
    val: EvalLoader
    accumulate: int
    """Batches of `train` in an optimizer step."""
    dense: DenseConfig | None = None
    """Which part of the training has which images."""

    @property
    def steps_per_epoch(self) -> int:
        """The optimizer steps of an epoch; images that do not fill a step are left out."""
        return len(self.train) // self.accumulate

    def phase(self, step: int, *, total: int) -> Phase | None:
        """Return what a step of a training of `total` sees, where the augmentation has parts."""
        return None if self.dense is None else self.dense.phase(step, steps=total)

    def steps(self, epoch: int, *, start: int, total: int) -> Iterator[list[Batch]]:
        """Yield the batches of each optimizer step of an epoch, from its step `start` on, in a training of `total`."""
        first = epoch * self.steps_per_epoch

        def phase_of(batch: int) -> Phase | None:
            return self.phase(first + batch // self.accumulate, total=total)

        batches = self.train.epoch(epoch, start_batch=start * self.accumulate, phase_of=phase_of)
        while len(group := list(islice(batches, self.accumulate))) == self.accumulate:
            yield group


def plan_of(config: TrainConfig, detector: Detector) -> Plan:
    """Return the limits that the data is checked against, for a detector of these settings."""
    return Plan(
        recipe=config.recipe,
        most_objects=detector.most_objects,
        has_queries="num_queries" in {field.name for field in fields(config.detector)},
        stride=detector.strides[0],
        transform=config.data.transform,
        batch_size=config.data.batch_size,
        micro_batch_size=config.data.micro_batch_size,
    )


def data_findings(splits: DataSplits, *, config: TrainConfig, detector: Detector) -> tuple[Finding, ...]:
    """Return the problems of the annotations, and those with this detector."""
    return (*splits.findings, *quick_findings([splits.train, splits.val], plan_of(config, detector)))


def make_loaders(config: TrainConfig, *, splits: DataSplits, rank: int, world_size: int) -> Loaders:
    """Return the loaders of process `rank`; raises InputError if the images or processes do not suit the batch size."""
    data = config.data
    per_process, rest = divmod(data.batch_size, world_size)
    micro = data.micro_batch_size or per_process
    if rest or micro == 0 or per_process % micro:
        raise InputError(
            f"data.batch_size {data.batch_size} must be a multiple of data.micro_batch_size {data.micro_batch_size} "
            f"times the number of processes {world_size}"
        )
    training = train_loader(
        splits.train,
        data.transform.build_train(),
        batch_size=micro,
        seed=config.seed,
        workers=data.workers,
        group_by_aspect=data.group_by_aspect,
        pad_multiple=data.pad_multiple,
        cache_mb=data.cache_mb,
        dense=_dense(config),
        rank=rank,
        world_size=world_size,
    )
    if len(training) < per_process // micro:
        raise InputError(
            f"{len(splits.train)} training images do not fill one step of data.batch_size {data.batch_size}: "
            "set a smaller one"
        )
    validation = eval_loader(
        splits.val,
        data.transform.build_eval(),
        batch_size=data.eval_batch_size,
        workers=data.workers,
        cache_mb=data.cache_mb,
        rank=rank,
        world_size=world_size,
    )
    loaders = Loaders(training, validation, per_process // micro, data.transform.dense)
    if data.transform.dense is not None:
        _require_clean_ending(data.transform.dense, config, steps_per_epoch=loaders.steps_per_epoch)
    return loaders


def _dense(config: TrainConfig) -> Dense | None:
    transform = config.data.transform
    if transform.dense is None:
        return None
    queries: int | None = vars(config.detector).get("num_queries")
    return Dense(
        config=transform.dense,
        stages=transform.build_stages(),
        most_targets=None if queries is None else queries // 2,
    )


def _require_clean_ending(dense: DenseConfig, config: TrainConfig, *, steps_per_epoch: int) -> None:
    """Raise InputError unless the last steps have clean images and a low rate: otherwise dense images cost accuracy."""
    steps = config.total_steps(steps_per_epoch)
    end = dense.bounds(steps)[-1]
    if end >= steps:
        raise InputError(
            f"data.transform.dense.end={dense.end:g} leaves no step with clean images at the end of "
            f"{counted(steps, 'step')}: set a smaller one, or more epochs"
        )
    factor = config.schedule.build(steps_per_epoch=steps_per_epoch, steps=steps)(end)
    if factor > LARGEST_CLEAN_FACTOR:
        raise InputError(
            f"data.transform.dense needs clean images at a low learning rate at the end, and from step {end + 1:,} of "
            f"{steps:,} on, where they begin, the rate is still {factor:.2g} of the full one: let schedule fall to "
            "half of it or less by then, for instance with schedule.kind=wsd"
        )
