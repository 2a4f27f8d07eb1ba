"""Feature maps of several strides as one row of cells (Deformable DETR, section 4.1 and appendix A.2)."""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.backbones.backbone import Backbone
from condetr.layers.positions import position_map

NORM_GROUPS = 32
"""Of group norm; a narrow width has fewer, of two channels at least, so that there is a variance in a single cell."""


class Levels(NamedTuple):
    """The cells of several maps, from fine to coarse, those of each map in row-major order."""

    features: Float[Tensor, "B S D"]
    positions: Float[Tensor, "B S D"]
    """Of a cell in its map, and of its map among the others."""
    is_padding: Bool[Tensor, "B S"]
    sizes_hw: tuple[tuple[int, int], ...]
    """Of each map."""
    sizes_wh: Float[Tensor, "V 2"]
    """The same numbers turned around, to divide points (x, y) by."""
    valid_ratios: Float[Tensor, "B V 2"]
    """How much of each map's width and height is not padding."""


class FeatureLevels(nn.Module):
    """A backbone's last maps and coarser ones made from the deepest, all projected to the transformer's width."""

    def __init__(self, backbone: Backbone, *, dim: int, num_levels: int) -> None:
        super().__init__()
        num_further = num_levels - len(backbone.channels)
        widths = (backbone.channels[-1], *[dim] * num_further)
        self.backbone = backbone
        self.projections = nn.ModuleList(
            [_projection(channels, dim) for channels in backbone.channels]
            + [_projection(channels, wide, is_strided=True) for channels, wide in pairwise(widths)]
        )
        self.level_embedding = nn.Parameter(torch.randn(num_levels, dim))
        self.dim = dim
        coarsest = backbone.strides[-1]
        self.strides = (*backbone.strides, *(coarsest * 2 ** (level + 1) for level in range(num_further)))

    def forward(self, images: Float[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"]) -> Levels:
        """Return the cells of all maps."""
        maps = self._maps(images)
        # Nearest neighbour, so that a cell is padding if the pixel at its corner is.
        masks = [F.interpolate(is_padding[None].float(), size=each.shape[-2:])[0].bool() for each in maps]
        positions = [position_map(mask, dim=self.dim, first=0.5) for mask in masks]
        return Levels(
            features=torch.cat([each.flatten(2).transpose(1, 2) for each in maps], dim=1),
            positions=torch.cat([p + level for p, level in zip(positions, self.level_embedding, strict=True)], dim=1),
            is_padding=torch.cat([mask.flatten(1) for mask in masks], dim=1),
            sizes_hw=tuple((each.shape[-2], each.shape[-1]) for each in maps),
            sizes_wh=torch.stack([_size_wh(mask) for mask in masks]),
            valid_ratios=torch.stack([_valid_ratio(mask) for mask in masks], dim=1),
        )

    def _maps(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B D _ _"]]:
        found = self.backbone(images)
        near, further = self.projections[: len(found)], self.projections[len(found) :]
        maps = [projection(each) for projection, each in zip(near, found, strict=True)]
        source = found[-1]  # not its projection
        for projection in further:
            source = projection(source)
            maps.append(source)
        return maps


def cell_centres(levels: Levels) -> Float[Tensor, "B S 2"]:
    """Return (x, y) of the middle of every cell, relative to the part of its map that is not padding.

    Within padding they are beyond 1.
    """
    centres = []
    for size_hw, ratio in zip(levels.sizes_hw, levels.valid_ratios.unbind(1), strict=True):
        y, x = ((torch.arange(size, device=ratio.device) + 0.5) / size for size in size_hw)
        centres.append(torch.cartesian_prod(y, x).flip(-1) / ratio[:, None])
    return torch.cat(centres, dim=1)


def _projection(channels: int, dim: int, *, is_strided: bool = False) -> nn.Sequential:
    convolution = nn.Conv2d(channels, dim, 3, stride=2, padding=1) if is_strided else nn.Conv2d(channels, dim, 1)
    nn.init.xavier_uniform_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return nn.Sequential(convolution, nn.GroupNorm(math.gcd(NORM_GROUPS, dim // 2), dim))


def _valid_ratio(is_padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B 2"]:
    is_valid = (~is_padding).float()
    return torch.stack([is_valid[:, 0].mean(1), is_valid[:, :, 0].mean(1)], dim=-1)


def _size_wh(is_padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "2"]:
    # Filled in place of copied: a GPU does not wait, and an exporter keeps sizes open.
    _, height, width = is_padding.shape
    sides = [torch.full((), side, dtype=torch.float32, device=is_padding.device) for side in (width, height)]
    return torch.stack(sides)
