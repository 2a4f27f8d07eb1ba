"""Sizes, and the geometric operations that move pixels and boxes of a sample together."""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.ops import clip_boxes_to_image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from condetr.data.batch import Sample

MEAN_COLOUR = [124.0, 116.0, 104.0]  # of ImageNet: about zero after normalisation


def resized_hw(size_hw: tuple[int, int], *, short_side: int, max_side: int | None = None) -> tuple[int, int]:
    """Return the size that brings the short side to `short_side` and keeps the long side at most `max_side`.

    The rounding is that of DETR's published code: the short side rounds, the long side truncates.
    """
    short, long = min(size_hw), max(size_hw)
    if max_side is not None and long / short * short_side > max_side:
        short_side = max(1, round(max_side * short / long))
    if short == short_side:
        return size_hw
    new_long = int(short_side * long / short)
    return (short_side, new_long) if size_hw[0] <= size_hw[1] else (new_long, short_side)


def fitted_hw(size_hw: tuple[int, int], *, into_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the largest size of the same aspect, to rounding, that fits into `into_hw`."""
    factor = min(into_hw[0] / size_hw[0], into_hw[1] / size_hw[1])
    return max(1, round(size_hw[0] * factor)), max(1, round(size_hw[1] * factor))


def current_hw(sample: Sample) -> tuple[int, int]:
    """Return the height and width of the sample's image."""
    return sample.image.shape[1], sample.image.shape[2]


def resize(sample: Sample, *, size_hw: tuple[int, int]) -> Sample:
    """Resize bilinearly with antialiasing; boxes scale by the actual ratios of new to old sides."""
    old_hw = current_hw(sample)
    if size_hw == old_hw:
        return sample
    image = resize_image(sample.image, size_hw=size_hw)
    scale_y, scale_x = size_hw[0] / old_hw[0], size_hw[1] / old_hw[1]
    boxes_xyxy = sample.boxes_xyxy * torch.tensor([scale_x, scale_y, scale_x, scale_y])
    return sample._replace(image=image, boxes_xyxy=boxes_xyxy)


def resize_image(image: UInt8[Tensor, "3 H W"], *, size_hw: tuple[int, int]) -> UInt8[Tensor, "3 H_out W_out"]:
    """Resize bilinearly with antialiasing, unless the image has that size."""
    if image.shape[1:] == size_hw:
        return image
    return F.resize(image, list(size_hw), interpolation=InterpolationMode.BILINEAR, antialias=True)  # type: ignore[no-any-return]


def flip_horizontally(sample: Sample) -> Sample:
    """Swap left and right."""
    _, width = current_hw(sample)
    x1, y1, x2, y2 = sample.boxes_xyxy.unbind(1)
    return sample._replace(image=sample.image.flip(2), boxes_xyxy=torch.stack([width - x2, y1, width - x1, y2], dim=1))


def flip_vertically(sample: Sample) -> Sample:
    """Swap top and bottom."""
    height, _ = current_hw(sample)
    x1, y1, x2, y2 = sample.boxes_xyxy.unbind(1)
    return sample._replace(
        image=sample.image.flip(1), boxes_xyxy=torch.stack([x1, height - y2, x2, height - y1], dim=1)
    )


def crop(sample: Sample, *, top: int, left: int, size_hw: tuple[int, int], min_visible: float = 0.0) -> Sample:
    """Cut a window out; boxes are clipped to it and stay if some area, at least `min_visible` of it, is inside."""
    height, width = size_hw
    shifted = sample.boxes_xyxy - torch.tensor([left, top, left, top])
    boxes_xyxy = clip_boxes_to_image(shifted, size_hw)
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    whole = (shifted[:, 2:] - shifted[:, :2]).prod(dim=1)
    keep = (sides > 0).all(dim=1) & (sides.prod(dim=1) >= min_visible * whole)
    return sample._replace(
        image=sample.image[:, top : top + height, left : left + width],
        boxes_xyxy=boxes_xyxy[keep],
        labels=sample.labels[keep],
    )


def pad(sample: Sample, *, top: int, left: int, size_hw: tuple[int, int]) -> Sample:
    """Place the image on a canvas of ImageNet's mean colour."""
    height, width = current_hw(sample)
    margins = [left, top, size_hw[1] - left - width, size_hw[0] - top - height]
    return sample._replace(
        image=F.pad(sample.image, margins, fill=MEAN_COLOUR),
        boxes_xyxy=sample.boxes_xyxy + torch.tensor([left, top, left, top]),
    )
