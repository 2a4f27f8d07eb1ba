"""Two ways to augment samples, and their settings.

Every random choice comes from the `random.Random` that is passed in, so that a sample's augmentation depends on
nothing else.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torchvision.transforms.v2 import functional as F

from condetr.config import settings
from condetr.data.batch import Sample
from condetr.data.dense import DenseConfig, Probability, Stages, Transform
from condetr.data.geometry import (
    crop,
    current_hw,
    fitted_hw,
    flip_horizontally,
    flip_vertically,
    pad,
    resize,
    resized_hw,
)
from condetr.errors import InputError

Strength = Annotated[float, Field(ge=0)]
Side = Annotated[int, Field(ge=1, le=2**13)]
Sides = Annotated[tuple[Side, ...], Field(min_length=1)]
Zoom = Annotated[float, Field(gt=0)]


@settings
class PaperTransformConfig:
    """The augmentation of DETR and its descendants: flip, then resize, or resize, crop and resize."""

    kind: Literal["paper"] = "paper"
    short_sides: Sides = tuple(range(480, 801, 32))
    """Short sides to choose from, the last step of every augmentation."""
    max_side: Side = 1333
    """Bound of the long side; the short side gives way."""
    crop_short_sides: Sides = (400, 500, 600)
    """Short sides to choose from before a crop."""
    crop_range: tuple[Side, Side] = (384, 600)
    """Least and largest side of a crop."""
    eval_short_side: Side = 800
    dense: DenseConfig | None = None
    """Several images in one, in the middle of a training."""

    def __post_init__(self) -> None:
        """Refuse a crop range that runs backwards."""
        if self.crop_range[0] > self.crop_range[1]:
            raise InputError(f"crop_range must go from least to largest, got {self.crop_range}")

    def build_train(self, *, crop_probability: float = 0.5) -> Transform:
        """Return the random augmentation."""
        return partial(
            augment_as_paper,
            short_sides=self.short_sides,
            max_side=self.max_side,
            crop_probability=crop_probability,
            crop_short_sides=self.crop_short_sides,
            crop_range=self.crop_range,
        )

    def build_stages(self) -> Stages:
        """Return the parts of the random augmentation."""
        uncropped = self.build_train(crop_probability=0.0)
        return Stages(self.build_train(), clean=uncropped, after_mosaic=uncropped, size_of=self.eval_hw)

    def build_eval(self) -> Transform:
        """Return the resize of evaluation, which draws no random number."""
        return partial(_resize_to, size_of=self.eval_hw)

    def eval_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the size at which an image of this size is evaluated."""
        return resized_hw(size_hw, short_side=self.eval_short_side, max_side=self.max_side)


@settings
class LightTransformConfig:
    """Augmentation for small images and small data: flips, zoom and colour jitter at a fixed scale."""

    kind: Literal["light"] = "light"
    size_hw: tuple[Side, Side] | None = None
    """Height and width into which every image is fitted, keeping its aspect; without it images keep their size."""
    horizontal_flip: Probability = 0.5
    vertical_flip: Probability = 0.0
    scale: tuple[Zoom, Zoom] = (1.0, 1.0)
    """Range of the random zoom: above 1 a part of the image is enlarged, below 1 the image shrinks on plain ground."""
    min_visible: Probability = 0.0
    """Fraction of a box's area that must stay visible in a crop; otherwise the box is dropped."""
    brightness: Strength = 0.0
    """Colour factors are drawn from 1 - strength to 1 + strength."""
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """The hue turns by up to this part of the colour circle, either way."""
    dense: DenseConfig | None = None
    """Several images in one, in the middle of a training."""

    def __post_init__(self) -> None:
        """Refuse a zoom range that runs backwards."""
        if self.scale[0] > self.scale[1]:
            raise InputError(f"scale must go from least to largest, got {self.scale}")

    def build_train(self) -> Transform:
        """Return the random augmentation."""
        return partial(
            augment_lightly,
            size_hw=self.size_hw,
            horizontal_flip=self.horizontal_flip,
            vertical_flip=self.vertical_flip,
            scale=self.scale,
            min_visible=self.min_visible,
            brightness=self.brightness,
            contrast=self.contrast,
            saturation=self.saturation,
            hue=self.hue,
        )

    def build_stages(self) -> Stages:
        """Return the parts of the random augmentation."""
        unscaled = replace(self, scale=(1.0, 1.0))
        clean = replace(unscaled, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
        return Stages(
            self.build_train(),
            clean=clean.build_train(),
            after_mosaic=unscaled.build_train(),
            size_of=self.eval_hw,
        )

    def build_eval(self) -> Transform:
        """Return the fit into `size_hw`, which draws no random number."""
        return partial(_resize_to, size_of=self.eval_hw)

    def eval_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the size at which an image of this size is evaluated."""
        return size_hw if self.size_hw is None else fitted_hw(size_hw, into_hw=self.size_hw)


@settings
class StretchConfig:
    """The resize for a graph that takes images of one size only, and no padding."""

    kind: Literal["stretch"] = "stretch"
    size_hw: tuple[Side, Side]

    def build_eval(self) -> Transform:
        """Return the resize, which draws no random number."""
        return partial(_resize_to, size_of=self.eval_hw)

    def eval_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the one size, whatever the image's."""
        return self.size_hw


TransformConfig = PaperTransformConfig | LightTransformConfig

EvalTransformConfig = TransformConfig | StretchConfig
"""What prepares images without a training."""


def augment_as_paper(
    sample: Sample,
    rng: random.Random,
    *,
    short_sides: tuple[int, ...],
    max_side: int,
    crop_probability: float,
    crop_short_sides: tuple[int, ...],
    crop_range: tuple[int, int],
) -> Sample:
    """Flip with probability 1/2, then resize; resize and crop before with the given one, 1/2 in DETR (appendix A.4)."""
    if rng.random() < 0.5:
        sample = flip_horizontally(sample)
    if rng.random() < crop_probability:
        sample = _resize_by_rule(sample, rng, short_side=rng.choice(crop_short_sides), max_side=None)
        sample = _crop_randomly(sample, rng, least=crop_range[0], largest=crop_range[1])
    return _resize_by_rule(sample, rng, short_side=rng.choice(short_sides), max_side=max_side)


def augment_lightly(
    sample: Sample,
    rng: random.Random,
    *,
    size_hw: tuple[int, int] | None,
    horizontal_flip: float,
    vertical_flip: float,
    scale: tuple[float, float],
    min_visible: float,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> Sample:
    """Flip, zoom and change colours at random, then fit into `size_hw`."""
    if rng.random() < horizontal_flip:
        sample = flip_horizontally(sample)
    if rng.random() < vertical_flip:
        sample = flip_vertically(sample)
    zoom = rng.uniform(*scale)
    if zoom > 1:
        sample = _zoom_in(sample, rng, zoom=zoom, size_hw=size_hw, min_visible=min_visible)
    elif zoom < 1:
        sample = _zoom_out(sample, rng, zoom=zoom, size_hw=size_hw)
    sample = _fit(sample, rng, size_hw=size_hw)
    return jitter(sample, rng, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)


def jitter(
    sample: Sample, rng: random.Random, *, brightness: float, contrast: float, saturation: float, hue: float
) -> Sample:
    """Change brightness, contrast and saturation by random factors, then turn the hue."""
    image = sample.image
    for strength, adjust in (
        (brightness, F.adjust_brightness),
        (contrast, F.adjust_contrast),
        (saturation, F.adjust_saturation),
    ):
        if strength > 0:
            image = adjust(image, rng.uniform(max(0.0, 1 - strength), 1 + strength))
    if hue > 0:
        image = F.adjust_hue(image, rng.uniform(-hue, hue))
    return sample._replace(image=image)


def _resize_by_rule(sample: Sample, rng: random.Random, *, short_side: int, max_side: int | None) -> Sample:
    return resize(sample, size_hw=resized_hw(current_hw(sample), short_side=short_side, max_side=max_side))


def _resize_to(sample: Sample, rng: random.Random, *, size_of: Callable[[tuple[int, int]], tuple[int, int]]) -> Sample:
    return resize(sample, size_hw=size_of(current_hw(sample)))


def _fit(sample: Sample, rng: random.Random, *, size_hw: tuple[int, int] | None) -> Sample:
    return sample if size_hw is None else resize(sample, size_hw=fitted_hw(current_hw(sample), into_hw=size_hw))


def _crop_randomly(sample: Sample, rng: random.Random, *, least: int, largest: int) -> Sample:
    height, width = current_hw(sample)
    new_width = rng.randint(min(width, least), min(width, largest))
    new_height = rng.randint(min(height, least), min(height, largest))
    top, left = rng.randint(0, height - new_height), rng.randint(0, width - new_width)
    return crop(sample, top=top, left=left, size_hw=(new_height, new_width))


def _zoom_in(
    sample: Sample, rng: random.Random, *, zoom: float, size_hw: tuple[int, int] | None, min_visible: float
) -> Sample:
    height, width = current_hw(sample)
    target_hw = (height, width) if size_hw is None else fitted_hw((height, width), into_hw=size_hw)
    window_hw = max(1, round(height / zoom)), max(1, round(width / zoom))
    top, left = rng.randint(0, height - window_hw[0]), rng.randint(0, width - window_hw[1])
    window = crop(sample, top=top, left=left, size_hw=window_hw, min_visible=min_visible)
    return resize(window, size_hw=target_hw)


def _zoom_out(sample: Sample, rng: random.Random, *, zoom: float, size_hw: tuple[int, int] | None) -> Sample:
    height, width = current_hw(sample)
    target_hw = (height, width) if size_hw is None else fitted_hw((height, width), into_hw=size_hw)
    small = resize(sample, size_hw=(max(1, round(target_hw[0] * zoom)), max(1, round(target_hw[1] * zoom))))
    small_hw = current_hw(small)
    top, left = rng.randint(0, target_hw[0] - small_hw[0]), rng.randint(0, target_hw[1] - small_hw[1])
    return pad(small, top=top, left=left, size_hw=target_hw)
