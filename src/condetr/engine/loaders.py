"""The data of a training: its splits, and the loaders that divide them among processes and steps."""

from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from typing import NamedTuple

from condetr.data.batch import Batch
from condetr.data.dataset import Finding
from condetr.data.loader import EvalLoader, TrainLoader, eval_loader, train_loader
from condetr.data.sources import DataSplits
from condetr.detectors.detector import Detector
from condetr.doctor.plan import Plan
from condetr.doctor.quick import quick_findings
from condetr.engine.config import TrainConfig
from condetr.errors import InputError


class Loaders(NamedTuple):
    """The loaders of one process."""

    train: TrainLoader
    val: EvalLoader
    accumulate: int
    """Batches of `train` in an optimizer step."""

    @property
    def steps_per_epoch(self) -> int:
        """The optimizer steps of an epoch; images that do not fill a step are left out."""
        return len(self.train) // self.accumulate

    def steps(self, epoch: int, *, start: int) -> Iterator[list[Batch]]:
        """Yield the batches of each optimizer step of an epoch, from its step `start` on."""
        batches = self.train.epoch(epoch, start_batch=start * self.accumulate)
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
    return Loaders(training, validation, per_process // micro)
