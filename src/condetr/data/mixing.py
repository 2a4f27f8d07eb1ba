"""Operations that put more, or larger and smaller, objects into a training image.

As in DEIM (Huang et al., CVPR 2025): https://github.com/ShihuaHuang95/DEIM. Boxes stay in pixels of their image, at
least one pixel wide and high.
"""

import math
import random
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import clip_boxes_to_image
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from condetr.data.batch import Sample
from condetr.data.geometry import MEAN_COLOUR, current_hw, fitted_hw, pad, resize

DEGREES, SHIFT, SCALE = 10.0, 0.1, (0.5, 1.5)
"""Of a mosaic: it is turned and moved, by a part of its sides, either way, and scaled."""
BLEND = (0.45, 0.55)
"""Range of the weight of one of two blended images."""
COPIES, LEAST_AREA, CONTEXT = 3, 100, (0.1, 0.25)
"""Of copied objects: the most in an image, their least area, and what is copied around them in parts of their sides."""
LARGEST_CANVAS = 4.0
"""Sides of the canvas that an image is placed on to be seen from afar, in sides of the image."""

_IOU_CROP = v2.RandomIoUCrop()


def mosaic(samples: Sequence[Sample], rng: random.Random, *, size_hw: tuple[int, int]) -> Sample:
    """Put four images into a square of two by two, each at half the size, then turn, move and scale the whole.

    The result has the given size; its name and original size are those of the first image.
    """
    cell_hw = math.ceil(size_hw[0] / 2), math.ceil(size_hw[1] / 2)
    canvas_hw = 2 * cell_hw[0], 2 * cell_hw[1]
    corners = [(top, left) for top in (0, cell_hw[0]) for left in (0, cell_hw[1])]
    placed = [
        pad(resize(each, size_hw=fitted_hw(current_hw(each), into_hw=cell_hw)), top=0, left=0, size_hw=cell_hw)
        for each in samples
    ]
    image = torch.cat([torch.cat([each.image for each in row], dim=2) for row in (placed[:2], placed[2:])], dim=1)
    boxes_xyxy = torch.cat(
        [
            each.boxes_xyxy + torch.tensor([left, top, left, top])
            for each, (top, left) in zip(placed, corners, strict=True)
        ]
    )
    whole = samples[0]._replace(image=image, boxes_xyxy=boxes_xyxy, labels=torch.cat([each.labels for each in placed]))
    turned = affine(
        whole,
        degrees=rng.uniform(-DEGREES, DEGREES),
        shift_xy=tuple(round(rng.uniform(-SHIFT, SHIFT) * side) for side in canvas_hw[::-1]),
        scale=rng.uniform(*SCALE),
    )
    return resize(turned, size_hw=size_hw)


def affine(sample: Sample, *, degrees: float, shift_xy: tuple[int, ...], scale: float) -> Sample:
    """Turn clockwise and scale about the centre, then move; a box becomes what encloses its turned corners."""
    motion = {"angle": degrees, "translate": [*shift_xy], "scale": scale, "shear": [0.0, 0.0]}
    image = F.affine(sample.image, **motion, interpolation=InterpolationMode.BILINEAR, fill=MEAN_COLOUR)
    boxes = tv_tensors.BoundingBoxes(
        sample.boxes_xyxy, format="XYXY", canvas_size=current_hw(sample), clamping_mode=None
    )
    return _within(sample._replace(image=image, boxes_xyxy=F.affine(boxes, **motion).as_subclass(Tensor)))


def zoom_out(sample: Sample, rng: random.Random) -> Sample:
    """Place the image somewhere on a larger canvas (SSD, section 3.6)."""
    height, width = current_hw(sample)
    factor = rng.uniform(1, LARGEST_CANVAS)
    canvas_hw = int(factor * height), int(factor * width)
    top, left = rng.randint(0, canvas_hw[0] - height), rng.randint(0, canvas_hw[1] - width)
    return pad(sample, top=top, left=left, size_hw=canvas_hw)


def iou_crop(sample: Sample, rng: random.Random) -> Sample:
    """Cut out a window that overlaps some object enough; objects stay whose centre is in it (SSD, section 2.2)."""
    if not len(sample.labels) or min(current_hw(sample)) < 8:  # smaller windows may have no pixel
        return sample
    boxes = tv_tensors.BoundingBoxes(sample.boxes_xyxy, format="XYXY", canvas_size=current_hw(sample))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.getrandbits(63))
        image, boxes = _IOU_CROP(tv_tensors.Image(sample.image), boxes)
    return _within(
        sample._replace(image=image.as_subclass(Tensor), boxes_xyxy=boxes.as_subclass(Tensor)),
    )


def mixup(samples: Sequence[Sample], rng: random.Random, *, most_targets: int | None) -> list[Sample]:
    """Blend each image with the one before it in the batch, and join their targets; the larger sides are kept.

    Images that would have more than `most_targets` stay as they are.
    """
    weight = rng.uniform(*BLEND)
    return [
        _mixed(one, samples[index - 1], weight=weight, most_targets=most_targets) for index, one in enumerate(samples)
    ]


def _mixed(one: Sample, other: Sample, *, weight: float, most_targets: int | None) -> Sample:
    if most_targets is not None and len(one.labels) + len(other.labels) > most_targets:
        return one
    height, width = (max(sides) for sides in zip(current_hw(one), current_hw(other), strict=True))
    images = [pad(each, top=0, left=0, size_hw=(height, width)).image for each in (one, other)]
    return one._replace(
        image=_blended(*images, weight=weight),
        boxes_xyxy=torch.cat([one.boxes_xyxy, other.boxes_xyxy]),
        labels=torch.cat([one.labels, other.labels]),
    )


def copy_blend(samples: Sequence[Sample], rng: random.Random, *, most_targets: int | None) -> list[Sample]:
    """Blend up to three objects from other images of the batch into each image, at a random place and in their size.

    An image gets no more than `most_targets` by it.
    """
    return [
        _with_copies(one, [*samples[:index], *samples[index + 1 :]], rng, most_targets=most_targets)
        for index, one in enumerate(samples)
    ]


def _with_copies(sample: Sample, others: Sequence[Sample], rng: random.Random, *, most_targets: int | None) -> Sample:
    objects = [
        (other, index)
        for other in others
        for index, (x1, y1, x2, y2) in enumerate(other.boxes_xyxy.tolist())
        if (x2 - x1) * (y2 - y1) >= LEAST_AREA
    ]
    copies = min(rng.randint(1, COPIES), len(objects))
    if most_targets is not None:
        copies = min(copies, most_targets - len(sample.labels))
    for other, index in rng.sample(objects, max(copies, 0)):
        sample = _with_copy(sample, other, index, rng)
    return sample


def _with_copy(sample: Sample, other: Sample, index: int, rng: random.Random) -> Sample:
    """Blend an object of another image into this one, unless it is larger than this image."""
    box = other.boxes_xyxy[index]
    left, top, right, bottom = _with_context(box, rng, size_hw=current_hw(other))
    (height, width), (rows, columns) = current_hw(sample), (bottom - top, right - left)
    if rows > height or columns > width:
        return sample
    y, x = rng.randint(0, height - rows), rng.randint(0, width - columns)
    image = sample.image.clone()
    window = image[:, y : y + rows, x : x + columns]
    window.copy_(_blended(window, other.image[:, top:bottom, left:right], weight=rng.uniform(*BLEND)))
    moved = box + torch.tensor([x - left, y - top, x - left, y - top])
    return sample._replace(
        image=image,
        boxes_xyxy=torch.cat([sample.boxes_xyxy, moved[None]]),
        labels=torch.cat([sample.labels, other.labels[index : index + 1]]),
    )


def _with_context(
    box_xyxy: Float[Tensor, " 4"], rng: random.Random, *, size_hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a box with something around it, in whole pixels within the image."""
    x1, y1, x2, y2 = box_xyxy.tolist()
    margin = rng.uniform(*CONTEXT) / 2
    dx, dy = margin * (x2 - x1), margin * (y2 - y1)
    return (
        *(max(math.floor(x1 - dx), 0), max(math.floor(y1 - dy), 0)),
        *(min(math.ceil(x2 + dx), size_hw[1]), min(math.ceil(y2 + dy), size_hw[0])),
    )


def _blended(one: UInt8[Tensor, "3 H W"], other: UInt8[Tensor, "3 H W"], *, weight: float) -> UInt8[Tensor, "3 H W"]:
    return other.float().lerp_(one.float(), weight).round_().to(torch.uint8)


def _within(sample: Sample) -> Sample:
    """Clip boxes to the image, and drop those with a side below one pixel."""
    boxes_xyxy = clip_boxes_to_image(sample.boxes_xyxy, current_hw(sample))
    keep = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] >= 1).all(dim=1)
    return sample._replace(boxes_xyxy=boxes_xyxy[keep], labels=sample.labels[keep])
