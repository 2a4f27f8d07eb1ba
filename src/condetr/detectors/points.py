"""Points of a feature pyramid: where they lie, which object each one learns, and the boxes around them (FCOS)."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from condetr.boxes import area
from condetr.layers.pyramid import Maps, cell_corners


class Points(NamedTuple):
    """Where in the images the cells of all levels predict, from fine to coarse."""

    xy: Float[Tensor, "S 2"]
    """Pixels."""
    strides: Float[Tensor, " S"]
    """Of the level that each is on."""
    counts: tuple[int, ...]
    """How many are on each level."""

    def level_of(self, places: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
        """Return which level, counted from the finest, the points at these places are on."""
        ends = torch.tensor(self.counts, device=places.device).cumsum(0)
        return torch.bucketize(places, ends, right=True)


def points_of(
    maps: Maps, *, strides: tuple[int, ...], cells_hw: tuple[tuple[int, int], ...], shift: float = 0.5
) -> Points:
    """Return a point for every cell, so many strides right of and below its corner."""
    corners = [cell_corners(each, cell_hw=cell_hw) for each, cell_hw in zip(maps, cells_hw, strict=True)]
    of_each = torch.cat([xy.new_full((len(xy),), stride) for xy, stride in zip(corners, strides, strict=True)])
    return Points(torch.cat(corners) + shift * of_each[:, None], of_each, counts=tuple(map(len, corners)))


def boxes_around(
    xy: Float[Tensor, "*#batch 2"], *, strides: Float[Tensor, "*#batch"], distances: Float[Tensor, "*batch 4"]
) -> Float[Tensor, "*batch 4"]:
    """Return the boxes (corners in pixels) whose sides are so many strides away from the points."""
    before, after = (distances * strides[..., None]).chunk(2, dim=-1)
    return torch.cat([xy - before, xy + after], dim=-1)


def distances_to_sides(xy: Float[Tensor, "*#batch 2"], boxes_xyxy: Float[Tensor, "*#batch 4"]) -> Tensor:
    """Return how many pixels it is to the left, upper, right and lower side of a box, negative from outside."""
    return torch.cat([xy - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - xy], dim=-1)


def assigned(
    points: Points, boxes_xyxy: Float[Tensor, "T 4"], *, centre_radius: float, with_limits: bool = False
) -> Int[Tensor, " S"]:
    """Return the place of the target that each point learns, or -1.

    A point learns the smallest target that it is inside of and near the centre of, if the farthest of its sides is 4
    to 8 strides away; the finest level takes nearer ones too, the coarsest one all that are farther (section 3.2).
    `with_limits` a side that is just 8 strides away is learned on both levels, as the paper says, otherwise on none.
    """
    xy, strides = points.xy[:, None], points.strides[:, None]
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    is_central = (xy - centres).abs().amax(-1) < centre_radius * strides
    sides = distances_to_sides(xy, boxes_xyxy)
    farthest = sides.amax(-1)
    least, most = 4 * strides, 8 * strides
    least[: points.counts[0]], most[-points.counts[-1] :] = 0, torch.inf
    is_within = (farthest > least) & (farthest < most)
    if with_limits:
        is_within |= (farthest == least) | (farthest == most)
    fits = is_central & (sides.amin(-1) > 0) & is_within
    areas = torch.where(fits, area(boxes_xyxy), torch.inf)
    smallest, target = F.pad(areas, (0, 1), value=torch.inf).min(dim=1)
    return torch.where(smallest.isfinite(), target, -1)


def true_centreness(xy: Float[Tensor, "P 2"], boxes_xyxy: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
    """Return how central points are in boxes that they are inside of: 1 in the middle, 0 at a side (equation 3)."""
    before, after = distances_to_sides(xy, boxes_xyxy).chunk(2, dim=-1)
    return (before.minimum(after) / before.maximum(after)).prod(dim=-1).sqrt()
