"""Box arithmetic, on tensors of any leading shape. Formats are named as in shapes.py."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def cxcywh_to_xyxy(boxes_cxcywh: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Turn centre, width and height into corners, in the same units."""
    centre, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Turn corners into centre, width and height, in the same units."""
    top_left, bottom_right = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([(top_left + bottom_right) / 2, bottom_right - top_left], dim=-1)


def to_xywh(boxes_xyxy: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    """Return left, top, width and height, the form of boxes in COCO files, in float64."""
    corners = boxes_xyxy.astype(np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def area(boxes_xyxy: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch"]:
    """Return areas; a box with swapped corners has area 0."""
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0).prod(dim=-1)


def iou(a_xyxy: Float[Tensor, "*#batch 4"], b_xyxy: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*batch"]:
    """Return intersection over union of boxes that correspond after broadcasting; 0 if both have no area."""
    top_left, bottom_right = _max(a_xyxy[..., :2], b_xyxy[..., :2]), _min(a_xyxy[..., 2:], b_xyxy[..., 2:])
    intersection = _length(top_left, bottom_right).prod(dim=-1)
    return _ratio(intersection, area(a_xyxy) + area(b_xyxy) - intersection)


def giou(a_xyxy: Float[Tensor, "*#batch 4"], b_xyxy: Float[Tensor, "*#batch 4"]) -> Float[Tensor, "*batch"]:
    """Return the generalised IoU of boxes that correspond after broadcasting, in [-1, 1].

    `giou(a[:, None], b)` compares all pairs. Two boxes whose enclosing box has no area have the value -1. Unlike
    torchvision's loss it adds no epsilon, which would matter for small normalised boxes.
    """
    a_x1, a_y1, a_x2, a_y2 = _coordinates(a_xyxy)
    b_x1, b_y1, b_x2, b_y2 = _coordinates(b_xyxy)
    intersection = _length(_max(a_x1, b_x1), _min(a_x2, b_x2)) * _length(_max(a_y1, b_y1), _min(a_y2, b_y2))
    union = area(a_xyxy) + area(b_xyxy) - intersection
    hull = _length(_min(a_x1, b_x1), _max(a_x2, b_x2)) * _length(_min(a_y1, b_y1), _max(a_y2, b_y2))
    return _ratio(intersection, union) - 1 + _ratio(union, hull)


def _coordinates(boxes_xyxy: Tensor) -> tuple[Tensor, ...]:
    """Return x1, y1, x2 and y2 as contiguous tensors: comparing all pairs then reads whole vectors."""
    return boxes_xyxy.movedim(-1, 0).contiguous().unbind(0)


def _length(start: Tensor, end: Tensor) -> Tensor:
    return (end - start).clamp(min=0)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, or 0 with a finite gradient where whole is 0."""
    is_empty = whole <= 0
    return torch.where(is_empty, 0, part / torch.where(is_empty, 1, whole))


_min, _max = torch.minimum, torch.maximum
