"""Batches of a split: shuffled, augmented and shared among processes, in an order that depends on seeds alone."""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from condetr.data.batch import Batch, Sample, collate
from condetr.data.dataset import ImageRecord, Split
from condetr.data.dense import Dense, Phase, Transform
from condetr.data.images import read_image
from condetr.data.stored.places import Places, enter_all, entered
from condetr.errors import InputError


class Key(NamedTuple):
    """What a sample depends on besides the seed."""

    epoch: int
    position: int
    """Of the image in its split."""
    phase: Phase | None = None
    """The part of the training, where the augmentation has parts."""


def _no_phase(batch: int) -> None:
    return None


def train_loader(
    split: Split,
    transform: Transform,
    *,
    batch_size: int,
    seed: int,
    workers: int = 0,
    group_by_aspect: bool = False,
    pad_multiple: int = 1,
    cache_mb: int = 0,
    dense: Dense | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> "TrainLoader":
    """Return the training batches of process `rank` of `world_size`.

    Every process gets `batch_size` images of each global batch. `group_by_aspect` puts landscape and portrait images
    into separate batches, which saves padding. `pad_multiple` rounds the height and width of a batch up, so that few
    sizes occur. `cache_mb` mebibytes of decoded images stay in memory, divided among
    the workers. `dense` takes the place of `transform` in batches that are given a phase. Raises InputError where the
    split has fewer images than one global batch.
    """
    images, needed = len(split), batch_size * world_size
    if images < needed:
        cure = f"set a batch size of at most {images // world_size}" if images >= world_size else "use fewer processes"
        raise InputError(
            f"the training split {split.name!r} has {images} images, fewer than one batch of {needed}"
            f" ({batch_size} in each of {world_size} processes): {cure}"
        )
    groups = tuple(_is_portrait(record) if group_by_aspect else False for record in split.records)
    reader = _BatchReader(
        split=split,
        transform=transform,
        seed=seed,
        pad_multiple=pad_multiple,
        cache_bytes=cache_mb * 2**20,
        dense=dense,
    )
    return TrainLoader(
        reader, groups=groups, batch_size=batch_size, seed=seed, workers=workers, rank=rank, world_size=world_size
    )


def eval_loader(
    split: Split,
    transform: Transform,
    *,
    batch_size: int = 1,
    workers: int = 0,
    cache_mb: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> "EvalLoader":
    """Return every image of the split once, in order; process `rank` gets every `world_size`-th, none twice."""
    reader = _BatchReader(split=split, transform=transform, seed=0, pad_multiple=1, cache_bytes=cache_mb * 2**20)
    indices = range(len(split))[rank::world_size]
    return EvalLoader(reader, batches=_chunks(indices, size=batch_size), workers=workers)


class TrainLoader:
    """Training batches, epoch by epoch; any epoch can be asked for, from any batch on."""

    def __init__(
        self,
        reader: "_BatchReader",
        *,
        groups: Sequence[bool],
        batch_size: int,
        seed: int,
        workers: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.groups = groups
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._pipeline = _Pipeline(reader, workers=workers)

    def __len__(self) -> int:
        """Return the batches of an epoch on this process; an incomplete last one is left out."""
        return len(self.groups) // (self.batch_size * self.world_size)

    def epoch(
        self, number: int, *, start_batch: int = 0, phase_of: Callable[[int], Phase | None] = _no_phase
    ) -> Iterator[Batch]:
        """Yield the batches of epoch `number`, the same whenever it is asked for, from batch `start_batch` on.

        `phase_of` tells the phase of a batch by its place in the epoch.
        """
        batches = [*enumerate(self.batch_positions(number))][start_batch:]
        return self._pipeline.run(
            [[Key(number, position, phase_of(index)) for position in batch] for index, batch in batches]
        )

    def batch_positions(self, epoch: int) -> list[Sequence[int]]:
        """Return which images, by their position in the split, this process sees in each batch of an epoch."""
        order = list(range(len(self.groups)))
        random.Random(f"order {self.seed} {epoch}").shuffle(order)
        whole = _group(order, groups=self.groups, size=self.batch_size * self.world_size)
        mine = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        return [batch[mine] for batch in whole]


class EvalLoader:
    """The batches of one pass over a split."""

    def __init__(self, reader: "_BatchReader", *, batches: Sequence[Sequence[int]], workers: int) -> None:
        self.batches = batches
        self._pipeline = _Pipeline(reader, workers=workers)

    def __len__(self) -> int:
        """Return the batches of this process."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches; the last one may be smaller."""
        return self._pipeline.run([[Key(0, index) for index in batch] for batch in self.batches])


class _BatchReader(Dataset[Batch | InputError]):
    """Reads, transforms and collates the samples of one batch; holds no state but a cache of decoded images."""

    def __init__(
        self,
        *,
        split: Split,
        transform: Transform,
        seed: int,
        pad_multiple: int,
        cache_bytes: int,
        dense: Dense | None = None,
    ) -> None:
        self.split = split
        self.dense = dense
        self.counts = [int((~record.is_crowd).sum()) for record in split.records]
        self.transform = transform
        self.seed = seed
        self.pad_multiple = pad_multiple
        self.cache_bytes = cache_bytes
        self.cache: dict[int, Tensor] = {}
        self.cached_bytes = 0

    def __getitem__(self, keys: Sequence[Key]) -> Batch | InputError:
        # An exception from a worker arrives with a traceback in its message: hand the error over as a value.
        try:
            return collate(self._mixed([self._sample(key) for key in keys], keys[0]), multiple=self.pad_multiple)
        except InputError as error:
            return error

    def _sample(self, key: Key) -> Sample:
        rng = random.Random(f"sample {self.seed} {key.epoch} {key.position}")
        if self.dense is None or key.phase is None:
            return self.transform(self._read(key.position), rng)
        return self.dense.sample(key.position, rng, phase=key.phase, read=self._read, counts=self.counts)

    def _mixed(self, samples: Sequence[Sample], first: Key) -> Sequence[Sample]:
        """Mix the samples of a batch, whose random numbers follow from its first image."""
        if self.dense is None or first.phase is None:
            return samples
        rng = random.Random(f"batch {self.seed} {first.epoch} {first.position}")
        return self.dense.batch(samples, rng, phase=first.phase)

    def _read(self, position: int) -> Sample:
        record = self.split.records[position]
        is_target = ~record.is_crowd
        return Sample(
            image=self._image(position),
            boxes_xyxy=torch.as_tensor(record.boxes_xyxy[is_target], dtype=torch.float32),
            labels=torch.as_tensor(record.labels[is_target], dtype=torch.int64),
            image_id=record.image_id,
            original_size_hw=record.size_hw,
        )

    def _image(self, position: int) -> UInt8[Tensor, "3 H W"]:
        if position in self.cache:
            return self.cache[position]
        image = read_image(self.split.records[position].path)
        # Every image is visited once an epoch: keeping the first ones beats keeping the latest ones.
        if self.cached_bytes + image.nbytes <= self.cache_bytes // _workers_here():
            self.cached_bytes += image.nbytes
            self.cache[position] = image
        return image


class _Order:
    """A sampler whose keys are replaced before every run."""

    def __init__(self) -> None:
        self.keys: list[list[Key]] = []

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


class _Pipeline:
    """A DataLoader that gets a new order for every run, so that its workers stay alive between epochs."""

    def __init__(self, reader: _BatchReader, *, workers: int) -> None:
        self.order = _Order()
        self.loader: DataLoader[Batch | InputError] = DataLoader(
            reader,
            sampler=self.order,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=partial(_begin, places=entered()),
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its own, so that iterating draws nothing from the global random state
        )

    def run(self, order: list[list[Key]]) -> Iterator[Batch]:
        self.order.keys = order
        for batch in self.loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch


def _group(order: Sequence[int], *, groups: Sequence[bool], size: int) -> list[Sequence[int]]:
    """Cut an order into batches of one group each; what is left of both groups at the end is mixed."""
    batches: list[Sequence[int]] = []
    waiting: dict[bool, list[int]] = {False: [], True: []}
    for index in order:
        queue = waiting[groups[index]]
        queue.append(index)
        if len(queue) == size:
            batches.append(tuple(queue))
            queue.clear()
    rest = waiting[False] + waiting[True]
    return batches + [batch for batch in _chunks(rest, size=size) if len(batch) == size]


def _chunks(indices: Sequence[int], *, size: int) -> list[Sequence[int]]:
    return [indices[first : first + size] for first in range(0, len(indices), size)]


def _is_portrait(record: ImageRecord) -> bool:
    return record.size_hw[0] > record.size_hw[1]


def _workers_here() -> int:
    info = get_worker_info()
    return 1 if info is None else info.num_workers


def _begin(worker: int, *, places: Mapping[Path, Places]) -> None:
    """Let a worker find stored images, and leave signals to the training.

    A signal to the whole group, such as Ctrl-C, is to stop the training in its own way, not by killing its readers.
    """
    enter_all(places)
    if sys.platform == "win32":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        os.setpgrp()


def _unchanged(batch: Any) -> Any:  # noqa: ANN401 - as DataLoader declares it
    return batch
