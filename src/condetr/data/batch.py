"""Samples, and how several become one padded batch."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torchvision.ops import box_convert

from condetr.shapes import Batch, Target

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_SCALE = 1 / (255 * torch.tensor(IMAGENET_STD).view(3, 1, 1))
_SHIFT = torch.tensor(IMAGENET_MEAN).view(3, 1, 1) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


class Sample(NamedTuple):
    """One image with its training targets, crowd regions left out."""

    image: UInt8[Tensor, "3 H W"]
    """RGB."""
    boxes_xyxy: Float[Tensor, "T 4"]
    """Pixels of `image`."""
    labels: Int[Tensor, " T"]
    """Training ids."""
    image_id: int
    original_size_hw: tuple[int, int]
    """Pixels before any transform."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Normalise with ImageNet's mean and deviation, then pad right and below with zeros to a common size.

    Height and width of the batch are two separate maxima, not rounded to any multiple; boxes become relative to
    each image's own, unpadded size, as in DETR's code.
    """
    height = max(sample.image.shape[1] for sample in samples)
    width = max(sample.image.shape[2] for sample in samples)
    images = torch.zeros(len(samples), 3, height, width)
    is_padding = torch.ones(len(samples), height, width, dtype=torch.bool)
    for sample, image, padding in zip(samples, images, is_padding, strict=True):
        _place(sample.image, image, padding)
    return Batch(
        images=images,
        is_padding=is_padding,
        targets=tuple(_target(sample) for sample in samples),
        image_ids=tuple(sample.image_id for sample in samples),
        original_sizes_hw=tuple(sample.original_size_hw for sample in samples),
    )


def _place(pixels: UInt8[Tensor, "3 h w"], image: Float[Tensor, "3 H W"], is_padding: Bool[Tensor, "H W"]) -> None:
    """Write (pixels / 255 - mean) / deviation into the corner of an image of the batch, without a copy in between."""
    _, height, width = pixels.shape
    image[:, :height, :width].copy_(pixels).mul_(_SCALE).sub_(_SHIFT)
    is_padding[:height, :width] = False


def _target(sample: Sample) -> Target:
    _, height, width = sample.image.shape
    boxes_cxcywh: Tensor = box_convert(sample.boxes_xyxy, "xyxy", "cxcywh")
    return Target(
        labels=sample.labels,
        boxes_cxcywh=boxes_cxcywh / torch.tensor([width, height, width, height], dtype=boxes_cxcywh.dtype),
    )
