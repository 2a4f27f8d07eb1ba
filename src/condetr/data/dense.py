"""When a training sees dense images, that is several images in one, and what each sample and batch then goes through.

The parts of a training follow DEIM (section 3.1 and table 6): clean images at first, then dense ones, then some
augmentation without mixing, and clean images at the end, while the learning rate is low.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from condetr.config import settings
from condetr.data.batch import Sample
from condetr.data.geometry import current_hw, fitted_hw, resize
from condetr.data.mixing import copy_blend, iou_crop, mixup, mosaic, zoom_out
from condetr.errors import InputError

Phase = Literal["clean", "mixed", "unmixed"]
"""Flipped and resized only; everything; everything but mosaic and mixup."""
Transform = Callable[[Sample, random.Random], Sample]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


@settings
class DenseConfig:
    """More objects in a training image; the first and the last part of a training have clean images."""

    mosaic: Probability = 0.0
    """Of a sample: four images in one, at half the size each."""
    zoom_out: Probability = 0.0
    """Of a sample without mosaic: the image becomes a small part of a plain one."""
    iou_crop: Probability = 0.0
    """Of a sample without mosaic: a part of the image that overlaps some object."""
    mixup: Probability = 0.0
    """Of a batch: each image is blended with another one."""
    copy_blend: Probability = 0.0
    """Of a batch without mixup: up to three objects of other images are blended into each image."""
    start: Share = 0.05
    """Share of the steps before the first dense images."""
    mix_until: Share = 0.5
    """Share of the steps after which mosaic and mixup end."""
    end: Share = 0.95
    """Share of the steps after which all images are clean; the learning rate must have fallen to half by then."""

    def __post_init__(self) -> None:
        """Refuse parts in another order."""
        if not self.start <= self.mix_until <= self.end:
            raise InputError(
                "the parts of a training must follow one another: start, mix_until, end; got "
                f"{self.start}, {self.mix_until}, {self.end}"
            )

    def bounds(self, steps: int) -> tuple[int, int, int]:
        """Return the first step of each part after the first, in a training of so many steps."""
        start, mix_until, end = (round(share * steps) for share in (self.start, self.mix_until, self.end))
        return start, mix_until, end

    def phase(self, step: int, *, steps: int) -> Phase:
        """Return what step `step` of `steps`, counted from 0, sees."""
        start, mix_until, end = self.bounds(steps)
        if not start <= step < end:
            return "clean"
        return "mixed" if step < mix_until else "unmixed"

    def ahead(self, done: float) -> dict[Phase | None, float]:
        """Return the share of each phase in what is left after a share of the training."""
        start, mix_until, end = (max(share, done) for share in (self.start, self.mix_until, self.end))
        lengths: dict[Phase | None, float] = {"mixed": mix_until - start, "unmixed": end - mix_until}
        lengths["clean"] = 1 - done - sum(lengths.values())
        return {phase: length / (1 - done) for phase, length in lengths.items()}


class Stages(NamedTuple):
    """The parts of a recipe's own augmentation."""

    whole: Transform
    clean: Transform
    """Flips and resizes."""
    after_mosaic: Transform
    """Without what moves or scales."""
    size_of: Callable[[tuple[int, int]], tuple[int, int]]
    """From an image's size to the size at which it is seen."""


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Augments samples and batches according to the part of the training."""

    config: DenseConfig
    stages: Stages
    most_targets: int | None = None
    """Of an image with partners: half the queries, since each needs one."""

    def sample(
        self,
        position: int,
        rng: random.Random,
        *,
        phase: Phase,
        read: Callable[[int], Sample],
        counts: Sequence[int],
    ) -> Sample:
        """Return the sample at a position, whose partners are drawn among all; `counts` has the targets of each."""
        if phase == "clean":
            return self.stages.clean(read(position), rng)
        if phase == "mixed" and rng.random() < self.config.mosaic:
            positions = [position, *(rng.randrange(len(counts)) for _ in range(3))]
            if self.most_targets is None or sum(counts[each] for each in positions) <= self.most_targets:
                samples = [read(each) for each in positions]
                size_hw = self.stages.size_of(current_hw(samples[0]))
                return self.stages.after_mosaic(mosaic(samples, rng, size_hw=size_hw), rng)
        return self.stages.whole(self._zoomed(read(position), rng), rng)

    def batch(self, samples: Sequence[Sample], rng: random.Random, *, phase: Phase) -> Sequence[Sample]:
        """Return the samples of a batch after mixing."""
        if phase == "mixed" and rng.random() < self.config.mixup:
            return mixup(samples, rng, most_targets=self.most_targets)
        if phase != "clean" and rng.random() < self.config.copy_blend:
            return copy_blend(samples, rng, most_targets=self.most_targets)
        return samples

    def _zoomed(self, sample: Sample, rng: random.Random) -> Sample:
        """Zoom in or out; where images keep their size, the result has that size, too."""
        size_hw = self.stages.size_of(current_hw(sample))
        if rng.random() < self.config.zoom_out:
            sample = zoom_out(_at_most(sample, size_hw=(2 * size_hw[0], 2 * size_hw[1])), rng)
        if rng.random() < self.config.iou_crop:
            sample = iou_crop(sample, rng)
        keeps_size = self.stages.size_of(current_hw(sample)) == current_hw(sample)
        return resize(sample, size_hw=fitted_hw(current_hw(sample), into_hw=size_hw)) if keeps_size else sample


def _at_most(sample: Sample, *, size_hw: tuple[int, int]) -> Sample:
    """Shrink an image to a size of the same aspect: the canvas of a large photograph would take gigabytes."""
    return resize(sample, size_hw=size_hw) if size_hw[0] < current_hw(sample)[0] else sample
