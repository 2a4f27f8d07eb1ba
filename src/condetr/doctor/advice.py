"""The command with which to train on data that was examined, and the reason for each of its parts."""

import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from condetr.data.dataset import Finding, ImageRecord, Split
from condetr.data.findings import Fault
from condetr.data.splits import held_out_count
from condetr.data.stored.mirror import address_of
from condetr.data.stored.places import stored_below
from condetr.data.transforms import LightTransformConfig
from condetr.doctor.clean import common_folder, described_by
from condetr.doctor.decide import DROPPED_BY_READERS, decide
from condetr.doctor.examine import Examination
from condetr.doctor.machine import Machine, gib
from condetr.doctor.plan import Plan, Size
from condetr.doctor.quick import num_objects, object_sides
from condetr.doctor.start import Start

_USABLE = 0.7  # of a machine's memory: the rest is for kernels, fragments and whatever else runs
_SPARE_QUERIES = 1.5  # queries for each object of the fullest image; COCO's has 63 objects, DETR 100 queries
_SMALL_QUANTILE = 0.25
_LARGEST_ZOOM = 2.0  # beyond it resizing invents pixels
_LEAST_VALIDATION = 20  # images
_MIXED_ASPECTS = 0.1


@runtime_checkable
class StepBytes(Protocol):
    """Tells what a training step takes; see `condetr.doctor.machine.step_bytes`."""

    def __call__(self, *, images: int, size_hw: Size) -> int:
        """Return bytes."""


class Part(NamedTuple):
    """One option of a command."""

    text: str
    reason: str
    setting: tuple[str, str] | None = None
    """The path and value that it sets."""


class Advice(NamedTuple):
    """What to do with data."""

    recipe: str
    parts: tuple[Part, ...]
    """The command to train with, option by option; none where no training can be recommended."""
    start: str | None = None
    """With which weights it begins, and why."""
    first: str | None = None
    """A command that must come before."""
    instead: str | None = None
    """Why no training can be recommended, and what to do."""

    @property
    def command(self) -> str | None:
        """The whole line, for a shell."""
        return " ".join(["condetr train", *(part.text for part in self.parts)]) if self.parts else None

    @property
    def assignments(self) -> list[str]:
        """The settings that it makes, as `path=value`."""
        return [f"{path}={value}" for path, value in filter(None, (part.setting for part in self.parts))]


class DataSummary(NamedTuple):
    """What advice depends on."""

    data: Path
    train: Split
    """As far as it can be used."""
    val: str | None
    """The validation split, where there is one."""
    num_images: int
    """For training, in what `data` names."""
    num_unreadable: int = 0


def advise(
    summary: DataSummary, *, plan: Plan, machine: Machine, step_bytes: StepBytes, start: Start | None = None
) -> Advice:
    """Return how to train on data; `start` says with which weights, where no recipe was asked for."""
    train, num_images = summary.train.records, summary.num_images
    if not num_images:
        return Advice(plan.recipe, (), instead=f"the split {summary.train.name!r} has no image to train on")
    validation = _validation(summary, num_images=num_images)
    data = f"--data {shlex.quote(address_of(summary.data) or str(summary.data))}"
    parts = (
        [Part(plan.recipe, plan.summary), Part(data, f"{num_images:,} training images")],
        () if start is None else _start(start),
        validation.parts,
        _unreadable(summary.num_unreadable),
        _batch(train, num_images=validation.num_trained_on, plan=plan, machine=machine, step_bytes=step_bytes),
        _queries(train, plan),
        _size(train, plan),
        _aspects(train, plan),
        _workers(machine),
    )
    return Advice(
        plan.recipe, tuple(part for some in parts for part in some), start=None if start is None else start.reason
    )


def with_cleaning(examination: Examination, summary: DataSummary, *, advise: Callable[[DataSummary], Advice]) -> Advice:
    """Return advice for data as it is where a training takes it, otherwise for a cleaned copy, if that helps."""
    stuck = _errors_left(examination)
    if stuck:
        told = f"{stuck[0]}{f'; and {len(stuck) - 1} more' if len(stuck) > 1 else ''}"
        return Advice(
            examination.plan.recipe, (), instead=f"fix this first, as only you can tell what is right: {told}"
        )
    if not _needs_cleaning(examination):
        return advise(summary)
    if stored_below(examination.source.root):
        return Advice(
            examination.plan.recipe,
            (),
            instead="correct the annotations, which a training refuses: a cleaned copy needs image files",
        )
    folder = summary.data if summary.data.is_dir() else examination.source.root
    folder = folder if folder.name not in ("", "..") else folder.resolve()
    copy = folder.with_name(f"{folder.name}-cleaned")
    inside = copy / os.path.relpath(described_by(examination, summary.data), common_folder(examination, summary.data))
    first = f"condetr doctor {shlex.quote(str(summary.data))} --fix {shlex.quote(str(copy))}"
    num_images = len(decide(examination).kept[examination.train])
    return advise(summary._replace(data=inside, num_images=num_images, num_unreadable=0))._replace(
        first=first, instead="a training refuses the data as it is: write a cleaned copy first"
    )


_CLEANED_AWAY = frozenset(fault for fault in DROPPED_BY_READERS if fault.severity == "error")
"""Errors that a cleaned copy no longer has."""


def _errors_left(examination: Examination) -> list[str]:
    """Return what neither skipping nor cleaning puts right."""
    cured = {*_CLEANED_AWAY, Fault.BROKEN_IMAGE}
    if examination.source.layout == "coco":
        cured.discard(Fault.FAULTY_FILE)  # a whole split would be missing
    faults = [fault for fault in Fault if fault.severity == "error" and fault not in cured]
    return [place for fault in faults for place in examination.places(fault)]


def _needs_cleaning(examination: Examination) -> bool:
    is_faulty = any(examination.places(fault) for fault in _CLEANED_AWAY)
    return is_faulty or any(content.broken for content in examination.contents.values())


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
    return Part(f"--set {shlex.quote(f'{path}={value}')}", reason, (path, str(value)))


def _start(start: Start) -> Iterator[Part]:
    for path, (value, reason) in start.options.items():
        if path == "init_from":
            yield Part(f"--init-from {shlex.quote(value)}", reason, (path, value))
        else:
            yield _set(path, value, reason)


class _Validation(NamedTuple):
    parts: tuple[Part, ...]
    num_trained_on: int


def _validation(summary: DataSummary, *, num_images: int) -> _Validation:
    if summary.val is not None:
        return _Validation((), num_images)
    if num_images < 2:
        name = summary.train.name
        why = "one image cannot be divided: it is evaluated on, too"
        return _Validation(
            (Part(f"--val-split {shlex.quote(name)}", why, ("data.val_split", json.dumps(name))),), num_images
        )
    fraction = 0.1 if 0.1 * num_images >= _LEAST_VALIDATION else 0.2
    why = "there is no validation split: this part of the training images is held out"
    held_out = held_out_count(num_images, fraction=fraction)
    part = Part(f"--val-fraction {fraction}", why, ("data.val_fraction", str(fraction)))
    return _Validation((part,), num_images - held_out)


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
    if plan.has_queries and most > plan.most_objects:
        queries = -(-int(_SPARE_QUERIES * most) // 50) * 50
        yield _set(
            "detector.num_queries", queries, f"an image has {most:,} objects, the recipe {plan.most_objects} queries"
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


def _aspects(records: Sequence[ImageRecord], plan: Plan) -> Iterator[Part]:
    if isinstance(plan.transform, LightTransformConfig) and plan.transform.size_hw is not None:
        return  # every image is fitted into the same size
    portrait = float(np.mean([record.size_hw[0] > record.size_hw[1] for record in records])) if records else 0.0
    if min(portrait, 1 - portrait) > _MIXED_ASPECTS:
        yield _set(
            "data.group_by_aspect", "true", f"{portrait:.0%} of the images are portrait: batches apart save padding"
        )


def _workers(machine: Machine) -> Iterator[Part]:
    if machine.cores >= 4:
        yield _set("data.workers", min(8, machine.cores - 1), f"{machine.cores} cores, of which one computes")
