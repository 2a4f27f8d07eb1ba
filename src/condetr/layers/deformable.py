"""Attention to a few points around a reference, in maps of several strides (Deformable DETR, section 4.1)."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.layers.levels import Levels


class Sampling(NamedTuple):
    """Where every head of a query looks, and how much each place counts."""

    points_xy: Float[Tensor, "B Q M V P 2"]
    """Relative to the whole of each map, its padding included; what is outside counts as 0."""
    weights: Float[Tensor, "B Q M V P"]
    """They sum to 1 over the points of all levels."""


class DeformableAttention(nn.Module):
    """Each head samples its values at a few points of every level, which the query places around its reference."""

    def __init__(self, dim: int, *, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.grid = (num_heads, num_levels, num_points)
        self.sampling_offsets = nn.Linear(dim, 2 * math.prod(self.grid))
        self.attention_weights = nn.Linear(dim, math.prod(self.grid))
        self.value_proj = nn.Linear(dim, dim)
        self.attend = SampledAttention(num_heads)
        self.output_proj = nn.Linear(dim, dim)
        self.initialise()

    def initialise(self) -> None:
        """Let each head look into a direction of its own, its points in a row and all alike (appendix A.4)."""
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(_rays(*self.grid).flatten())

    def forward(
        self, query: Float[Tensor, "B Q D"], *, reference: Float[Tensor, "B Q _"], memory: Levels
    ) -> Float[Tensor, "B Q D"]:
        """Attend around points (x, y) or boxes (cx, cy, w, h), relative to the image without its padding."""
        value = self.value_proj(memory.features).masked_fill(memory.is_padding[..., None], 0)
        sampling = self.sampling(query, reference=reference, memory=memory)
        attended: Tensor = self.output_proj(self.attend(value, sampling, memory=memory))
        return attended

    def sampling(self, query: Float[Tensor, "B Q D"], *, reference: Float[Tensor, "B Q _"], memory: Levels) -> Sampling:
        """Return where to look: offsets are cells around a point, and parts of half the sides around a box.

        In fp32 whatever the precision: half of it could not tell the cells of a large map apart.
        """
        shape = *query.shape[:2], *self.grid
        offsets_xy = self.sampling_offsets(query).float().view(*shape, 2)
        weights = self.attention_weights(query).float().view(*shape[:3], -1).softmax(-1).view(shape)
        ratios = memory.valid_ratios[:, None, None, :, None]
        centres, sides = (part[:, :, None, None, None] * ratios for part in (reference[..., :2], reference[..., -2:]))
        unit = 1 / memory.sizes_wh[:, None] if reference.shape[-1] == 2 else sides / (2 * self.grid[-1])
        return Sampling(centres + offsets_xy * unit, weights)


class SampledAttention(nn.Module):
    """Weighted sums of values between cells, head by head. It has no parameters: projections belong to its callers."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, value: Float[Tensor, "B S D"], sampling: Sampling, *, memory: Levels) -> Float[Tensor, "B Q D"]:
        """Return the sum over levels and points of each head's weight times its channels of the value there."""
        points_xy, weights = (each.transpose(1, 2).flatten(0, 1) for each in sampling)
        start, attended = 0, []
        for level, (height, width) in enumerate(memory.sizes_hw):
            cells = value[:, start : start + height * width].float().transpose(1, 2)
            maps = cells.reshape(points_xy.shape[0], -1, height, width)
            sampled = F.grid_sample(maps, 2 * points_xy[:, :, level] - 1, align_corners=False)
            attended.append((sampled * weights[:, None, :, level]).sum(-1))
            start += height * width
        together = torch.stack(attended).sum(0) if len(attended) > 1 else attended[0]
        return together.view(value.shape[0], value.shape[2], -1).transpose(1, 2).to(value.dtype)


def _rays(num_heads: int, num_levels: int, num_points: int) -> Float[Tensor, "M V P 2"]:
    """Return offsets to the border of squares of growing size, a direction for each head."""
    angles = torch.arange(num_heads) * (2 * math.pi / num_heads)
    directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
    directions = directions / directions.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, num_points + 1, dtype=torch.float32)
    return (directions[:, None, None] * steps[:, None]).expand(-1, num_levels, -1, -1)
