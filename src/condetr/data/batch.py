"""Samples, and how several become one padded batch."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torchvision.ops import box_convert

from condetr.shapes import Targets

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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


class Batch(NamedTuple):
    """Images padded on the right and below to a common size; bytes until they are where they are used."""

    pixels: UInt8[Tensor, "B 3 H W"]
    """RGB, zero where padded; the three bytes of a pixel lie side by side, as images are decoded."""
    is_padding: Bool[Tensor, "B H W"]
    sizes_hw: tuple[tuple[int, int], ...]
    """Sizes without padding."""
    targets: Targets
    image_ids: tuple[int, ...]
    original_sizes_hw: tuple[tuple[int, int], ...]
    """Sizes in pixels before any transform, to which detections are scaled back."""

    def normalised(self) -> Float[Tensor, "B 3 H W"]:
        """Return what detectors take: (pixels / 255 - mean) / deviation by ImageNet's figures, zero where padded."""
        mean, std = (_per_channel(values, self.pixels.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
        images = torch.empty(self.pixels.shape, device=self.pixels.device)
        images.copy_(self.pixels).mul_(1 / (255 * std)).sub_(mean / std)
        for image, (height, width) in zip(images, self.sizes_hw, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return images

    def to(self, device: str | torch.device) -> "Batch":
        """Return the batch on a device; a GPU is not waited for, but has the batch before its next work."""
        is_async = torch.device(device).type not in ("cpu", "mps")  # a Mac's GPU may read what is not there yet
        return self._each(lambda tensor: tensor.to(device, non_blocking=is_async))

    def pin_memory(self) -> "Batch":
        """Return the batch in memory that a GPU reads by itself; this is what DataLoader calls."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return self._replace(
            pixels=change(self.pixels),
            is_padding=change(self.is_padding),
            targets=self.targets._replace(
                labels=change(self.targets.labels), boxes_cxcywh=change(self.targets.boxes_cxcywh)
            ),
        )


@cache
def _per_channel(values: tuple[float, ...], device: torch.device) -> Float[Tensor, "3 1 1"]:
    """Return constants that are sent to a device once: it has to be waited for."""
    return torch.tensor(values, device=device)[:, None, None]


def collate(samples: Sequence[Sample], *, multiple: int = 1) -> Batch:
    """Pad images right and below to a common size.

    Height and width of the batch are two separate maxima, rounded up to a multiple of `multiple` pixels; boxes become
    relative to each image's own, unpadded size, as in DETR's code, which rounds to none.
    """
    pixels, is_padding = _padded([sample.image for sample in samples], multiple=multiple)
    return Batch(
        pixels=pixels,
        is_padding=is_padding,
        sizes_hw=tuple((sample.image.shape[1], sample.image.shape[2]) for sample in samples),
        targets=Targets.of((sample.labels, _relative_cxcywh(sample)) for sample in samples),
        image_ids=tuple(sample.image_id for sample in samples),
        original_sizes_hw=tuple(sample.original_size_hw for sample in samples),
    )


def collate_images(images: Sequence[UInt8[Tensor, "3 _ _"]], *, original_sizes_hw: Sequence[tuple[int, int]]) -> Batch:
    """Pad images without ground truth right and below to a common size; they are numbered from 0."""
    pixels, is_padding = _padded(images)
    return Batch(
        pixels=pixels,
        is_padding=is_padding,
        sizes_hw=tuple((image.shape[1], image.shape[2]) for image in images),
        targets=Targets.none(len(images)),
        image_ids=tuple(range(len(images))),
        original_sizes_hw=tuple(original_sizes_hw),
    )


def _padded(
    images: Sequence[UInt8[Tensor, "3 _ _"]], *, multiple: int = 1
) -> tuple[UInt8[Tensor, "B 3 H W"], Bool[Tensor, "B H W"]]:
    """Return images on a common ground, and which pixels are padding."""
    height, width = (math.ceil(max(image.shape[axis] for image in images) / multiple) * multiple for axis in (1, 2))
    pixels = torch.zeros(len(images), height, width, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    is_padding = torch.ones(len(images), height, width, dtype=torch.bool)
    for index, image in enumerate(images):
        _, rows, columns = image.shape
        pixels[index, :, :rows, :columns] = image
        is_padding[index, :rows, :columns] = False
    return pixels, is_padding


def _relative_cxcywh(sample: Sample) -> Float[Tensor, "T 4"]:
    _, height, width = sample.image.shape
    boxes_cxcywh: Tensor = box_convert(sample.boxes_xyxy, "xyxy", "cxcywh")
    return boxes_cxcywh / torch.tensor([width, height, width, height], dtype=boxes_cxcywh.dtype)
