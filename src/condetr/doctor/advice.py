"""The command with which to train on data that was examined, and the reason for each of its parts."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from condetr.data.dataset import Finding, ImageRecord
from condetr.data.splits import held_out_count
from condetr.data.transforms import LightTransformConfig
from condetr.doctor.examine import Examination
from condetr.doctor.machine import Machine, gib
from condetr.doctor.plan import Plan, Size
from condetr.doctor.quick import num_objects, object_sides

_USABLE = 0.7  # of a machine's memory: the rest is for kernels, fragments and whatever else runs
_SPARE_QUERIES = 1.5  # queries for each object of the fullest image; COCO's has 63 objects, DETR 100 queries
_SMALL_QUANTILE = 0.25
_LARGEST_ZOOM = 2.0  # beyond it resizing invents pixels
_LEAST_VALIDATION = 20  # images
_MIXED_ASPECTS = 0.1


@runtime_checkable
class StepBytes(Protocol):
    """Tells what a training step takes; see `condetr.doctor.memory.step_bytes`."""

    def __call__(self, *, images: int, size_hw: Size) -> int:
        """Return bytes."""


class Part(NamedTuple):
    """One option of a command."""

    text: str
    reason: str


class Advice(NamedTuple):
    """A command line in parts."""

    parts: tuple[Part, ...]

    @property
    def command(self) -> str:
        """The whole line, for a shell."""
        return " ".join(["condetr train", *(part.text for part in self.parts)])


def advise(
    examination: Examination,
    *,
    data: Path,
    num_images: int,
    num_unreadable: int,
    plan: Plan,
    machine: Machine,
    step_bytes: StepBytes,
) -> Advice:
    """Return how to train on `data`, which is what was examined or its cleaned copy, with `num_images` for training."""
    train = examination.splits[examination.train].records
    validation = _validation(examination, num_images=num_images)
    parts = (
        [Part(plan.recipe, plan.summary), Part(f"--data {shlex.quote(str(data))}", f"{num_images:,} training images")],
        validation.parts,
        _unreadable(num_unreadable),
        _batch(train, num_images=validation.num_trained_on, plan=plan, machine=machine, step_bytes=step_bytes),
        _queries(train, plan),
        _size(train, plan),
        _aspects(train),
        _workers(machine),
    )
    return Advice(tuple(part for some in parts for part in some))


def memory_finding(examination: Examination, *, plan: Plan, machine: Machine, step_bytes: StepBytes) -> Finding:
    """Say what the largest batch that may come takes: as high as the highest image and as wide as the widest."""
    size_hw = _largest_hw(examination.splits[examination.train].records, plan)
    needed = step_bytes(images=plan.images_at_once, size_hw=size_hw)
    fits = needed < _USABLE * machine.training_bytes
    batch = f"{plan.images_at_once} images of {size_hw[1]}x{size_hw[0]}"
    return Finding(
        severity="info" if fits else "warning",
        what=f"the largest batch of {plan.recipe}, {batch}, takes about {gib(needed)} in training"
        + ("" if fits else f", too much for this {machine.name}"),
        count=1,
        examples=(),
    )


def _largest_hw(records: Sequence[ImageRecord], plan: Plan) -> Size:
    sizes = [plan.largest_hw(record.size_hw) for record in records] or [(1, 1)]
    return max(height for height, _ in sizes), max(width for _, width in sizes)


def _set(path: str, value: object, reason: str) -> Part:
    return Part(f"--set {path}={value}", reason)


class _Validation(NamedTuple):
    parts: tuple[Part, ...]
    num_trained_on: int


def _validation(examination: Examination, *, num_images: int) -> _Validation:
    if examination.val is not None:
        return _Validation((), num_images)
    if num_images < 2:
        part = Part(f"--val-split {examination.train}", "one image cannot be divided: it is evaluated on, too")
        return _Validation((part,), num_images)
    fraction = 0.1 if 0.1 * num_images >= _LEAST_VALIDATION else 0.2
    why = "there is no validation split: this part of the training images is held out"
    held_out = held_out_count(num_images, fraction=fraction)
    return _Validation((Part(f"--val-fraction {fraction}", why),), num_images - held_out)


def _unreadable(count: int) -> Iterator[Part]:
    if count:
        yield _set("data.skip_unreadable", "true", f"{count} missing or unreadable, which training refuses otherwise")


def _batch(
    records: Sequence[ImageRecord], *, num_images: int, plan: Plan, machine: Machine, step_bytes: StepBytes
) -> Iterator[Part]:
    size = plan.batch_size
    while size > max(1, num_images):
        size //= 2
    if size < plan.batch_size:
        yield _set(
            "data.batch_size", size, f"a batch of {plan.batch_size} is more than the {num_images} images to train on"
        )
    at_once = min(size, plan.images_at_once)
    size_hw = _largest_hw(records, plan)
    while at_once > 1 and step_bytes(images=at_once, size_hw=size_hw) > _USABLE * machine.training_bytes:
        at_once //= 2
    if at_once < min(size, plan.images_at_once):
        needed = gib(step_bytes(images=at_once, size_hw=size_hw))
        yield _set("data.micro_batch_size", at_once, f"takes {needed} of the {machine.name}; gradients are accumulated")


def _queries(records: Sequence[ImageRecord], plan: Plan) -> Iterator[Part]:
    most = max(map(num_objects, records), default=0)
    if most > plan.num_queries:
        queries = -(-int(_SPARE_QUERIES * most) // 50) * 50
        yield _set(
            "detector.num_queries", queries, f"an image has {most:,} objects, the recipe {plan.num_queries} queries"
        )


def _size(records: Sequence[ImageRecord], plan: Plan) -> Iterator[Part]:
    """See images larger where more than a few objects are smaller than a cell of the feature map."""
    if not isinstance(plan.transform, LightTransformConfig) or plan.transform.size_hw is None:
        return
    sides = np.concatenate([object_sides(record, plan) for record in records] or [np.zeros(0)])
    if not len(sides) or np.quantile(sides, _SMALL_QUANTILE) >= plan.stride:
        return
    wanted = plan.stride / max(float(np.quantile(sides, _SMALL_QUANTILE)), 1e-6)
    native = float(np.median([max(record.size_hw) / max(plan.seen_hw(record.size_hw)) for record in records]))
    factor = min(wanted, _LARGEST_ZOOM * native)
    if factor > 1:
        height, width = (-(-int(factor * side) // 32) * 32 for side in plan.transform.size_hw)
        reason = (
            f"a quarter of the objects is smaller than a cell of {plan.stride} pixels; {factor**2:.1f} times the work"
        )
        yield _set("data.transform.size_hw", f"[{height},{width}]", reason)


def _aspects(records: Sequence[ImageRecord]) -> Iterator[Part]:
    portrait = float(np.mean([record.size_hw[0] > record.size_hw[1] for record in records])) if records else 0.0
    if min(portrait, 1 - portrait) > _MIXED_ASPECTS:
        yield _set(
            "data.group_by_aspect", "true", f"{portrait:.0%} of the images are portrait: batches apart save padding"
        )


def _workers(machine: Machine) -> Iterator[Part]:
    if machine.cores >= 4:
        yield _set("data.workers", min(8, machine.cores - 1), f"{machine.cores} cores, of which one computes")
