"""Regions that may hold an object: anchors, what is proposed from them, what is pooled, and how a region moves."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import roi_align

from condetr.boxes import area, cxcywh_to_xyxy, xyxy_to_cxcywh
from condetr.layers.pyramid import Maps, cell_corners, image_sizes
from condetr.shapes import Targets

Size = tuple[int, int]
"""Height and width in pixels."""
TorchvisionTarget = dict[str, Tensor]
"""`boxes` and `labels` of an image."""
POOLED = 7
"""Cells along each side of a pooled region."""
REGION_OF_STRIDE_16 = 224
"""The side of a square region that is pooled from there, in pixels (Lin et al., CVPR 2017, equation 1)."""
LARGEST_GROWTH = math.log(1000 / 16)
"""Of the logarithm of a side, when a region moves."""


class Anchors(nn.Module):
    """Boxes of some shapes around the corner of every cell."""

    def __init__(self, shapes_xyxy: Sequence[Float[Tensor, "N 4"]], *, is_saved: bool) -> None:
        super().__init__()
        self.names = [f"shapes{level}" for level in range(len(shapes_xyxy))]
        for name, each in zip(self.names, shapes_xyxy, strict=True):
            self.register_buffer(name, each, persistent=is_saved)

    def forward(self, maps: Maps, *, cells_hw: Sequence[Size]) -> Float[Tensor, "A 4"]:
        """Return the anchors of all levels in pixels, those of a cell one after the other."""
        return torch.cat(
            [
                (cell_corners(each, cell_hw=cell_hw).repeat(1, 2)[:, None] + self.get_buffer(name)).flatten(0, 1)
                for each, cell_hw, name in zip(maps, cells_hw, self.names, strict=True)
            ]
        )


class Proposed(NamedTuple):
    """The best regions of each image in pixels, and the losses of the anchors, none if nothing is learned."""

    regions_xyxy: list[Float[Tensor, "_ 4"]]
    losses: tuple[Tensor, ...]


def propose(
    rpn: RegionProposalNetwork,
    maps: Maps,
    *,
    cells_hw: Sequence[Size],
    sizes_hw: Sequence[Size],
    learned: list[TorchvisionTarget] | None,
    most: int,
) -> Proposed:
    """Return at most so many regions of each image, and the losses of the anchors where something is to be learned."""
    objectness, moves = rpn.head(list(maps))
    counts = [each[0].numel() for each in objectness]
    objectness, moves = (each.float() for each in concat_box_prediction_layers(objectness, moves))
    anchors = [rpn.anchor_generator(maps, cells_hw=cells_hw)] * len(sizes_hw)
    moved_xyxy = rpn.box_coder.decode(moves.detach(), anchors).view(len(sizes_hw), -1, 4)
    if moved_xyxy.is_meta:  # nothing can be chosen without values: as many as there can be
        return Proposed(list(moved_xyxy[:, :most]), ())
    regions_xyxy, _ = rpn.filter_proposals(moved_xyxy, objectness, sizes_hw, counts)
    if learned is None:
        return Proposed(regions_xyxy, ())
    labels, matched = rpn.assign_targets_to_anchors(anchors, learned)
    true_moves = rpn.box_coder.encode(matched, anchors)
    return Proposed(regions_xyxy, rpn.compute_loss(objectness, moves, labels, true_moves))


def sizes_without_padding(is_padding: Bool[Tensor, "B H W"]) -> tuple[Size, ...]:
    """Return the height and width of each image."""
    if is_padding.is_meta:
        height, width = is_padding.shape[1:]
        return ((height, width),) * len(is_padding)
    return tuple((int(height), int(width)) for width, height in image_sizes(is_padding).tolist())


def targets_in_pixels(targets: Targets, sizes_hw: Sequence[Size], *, first_label: int) -> list[TorchvisionTarget]:
    """Return targets in pixels, labels from `first_label` on, without boxes that have no area to move to."""
    found = []
    for labels, boxes_cxcywh, count, (height, width) in zip(*targets, sizes_hw, strict=True):
        boxes_xyxy = cxcywh_to_xyxy(boxes_cxcywh[:count]) * boxes_cxcywh.new_tensor([width, height, width, height])
        has_area = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(-1)
        found.append({"boxes": boxes_xyxy[has_area], "labels": labels[:count][has_area] + first_label})
    return found


def relative(boxes_xyxy: Float[Tensor, "N 4"], size_hw: Size) -> Float[Tensor, "N 4"]:
    """Return boxes in pixels relative to an image of this size."""
    height, width = size_hw
    return xyxy_to_cxcywh(boxes_xyxy / boxes_xyxy.new_tensor([width, height, width, height]))


def pool(
    maps: Maps, regions_xyxy: Sequence[Float[Tensor, "_ 4"]], *, strides: Sequence[int]
) -> Float[Tensor, "R D P P"]:
    """Return the pooled features of all images' regions, each from the level that suits its size.

    Cells are sampled where they are (aligned), as densely as pixels of the map.
    """
    boxes_xyxy = torch.cat(list(regions_xyxy))
    pooled = maps[0].new_zeros(len(boxes_xyxy), maps[0].shape[1], POOLED, POOLED)
    if pooled.is_meta:
        return pooled
    images = torch.cat([each.new_full((len(each), 1), image) for image, each in enumerate(regions_xyxy)])
    level_of_each = pooling_level(boxes_xyxy, strides=strides)
    for level, (each, stride) in enumerate(zip(maps, strides, strict=True)):
        here = torch.where(level_of_each == level)[0]
        boxes = torch.cat([images[here], boxes_xyxy[here]], dim=1)
        features = roi_align(each, boxes, POOLED, spatial_scale=1 / stride, sampling_ratio=0, aligned=True)
        pooled[here] = features.to(pooled.dtype)
    return pooled


def pooling_level(boxes_xyxy: Float[Tensor, "R 4"], *, strides: Sequence[int]) -> Float[Tensor, " R"]:
    """Return which level suits each region, as a whole number (Lin et al., CVPR 2017, equation 1)."""
    level = (4 + (area(boxes_xyxy).sqrt() / REGION_OF_STRIDE_16 + 1e-8).log2()).floor()
    return (level - math.log2(strides[0])).clamp(0, len(strides) - 1)


def moved(boxes_xyxy: Float[Tensor, "*#batch 4"], moves: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Move boxes by parts of their sides, and their sides by logarithms of factors (R-CNN, appendix C)."""
    centre, size = xyxy_to_cxcywh(boxes_xyxy).split(2, dim=-1)
    shift, growth = moves.split(2, dim=-1)
    return cxcywh_to_xyxy(torch.cat([centre + shift * size, size * growth.clamp(max=LARGEST_GROWTH).exp()], dim=-1))


def moves_to(boxes_xyxy: Float[Tensor, "*#batch 4"], goals_xyxy: Float[Tensor, "*#batch 4"]) -> Tensor:
    """Return the moves that bring boxes to where others are."""
    (centre, size), (goal, goal_size) = (xyxy_to_cxcywh(each).split(2, dim=-1) for each in (boxes_xyxy, goals_xyxy))
    return torch.cat([(goal - centre) / size, (goal_size / size).log()], dim=-1)
