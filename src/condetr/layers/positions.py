"""Sine position embeddings of points and of feature maps (DETR, appendix A.4)."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TEMPERATURE = 10_000.0


def sine_embedding(angles: Float[Tensor, "*batch"], *, dim: int) -> Float[Tensor, "*batch dim"]:
    """Embed angles in radians: sine in the even channels, cosine in the odd ones, with a frequency for each pair."""
    if dim % 2:
        raise ValueError(f"dim must be even, got {dim}")
    pair = torch.arange(dim // 2, dtype=torch.float32, device=angles.device)
    phases = angles[..., None].float() / TEMPERATURE ** (2 * pair / dim)
    return torch.stack([phases.sin(), phases.cos()], dim=-1).flatten(-2)


def point_embedding(points_xy: Float[Tensor, "*batch 2"], *, dim: int) -> Float[Tensor, "*batch dim"]:
    """Embed points in [0, 1]: first the channels of y, then those of x."""
    x, y = (points_xy * 2 * math.pi).unbind(-1)
    return torch.cat([sine_embedding(y, dim=dim // 2), sine_embedding(x, dim=dim // 2)], dim=-1)


def position_map(is_padding: Bool[Tensor, "B H W"], *, dim: int, first: float = 1.0) -> Float[Tensor, "B H*W dim"]:
    """Embed every cell by its position within the valid part of its image, in row-major order.

    Of n valid cells in a row, the first counts as `first` nth parts of 2 pi, and each one as an nth more than the one
    before it: with 1 the last one is at (nearly) 2 pi. Computed in fp32 whatever the precision.
    """
    return point_embedding(cell_places(is_padding, first=first), dim=dim)


def cell_places(is_padding: Bool[Tensor, "B H W"], *, first: float = 1.0) -> Float[Tensor, "B H*W 2"]:
    """Return (x, y) of every cell within the valid part of its image, as `position_map` embeds them."""
    is_valid = (~is_padding).float()
    y, x = is_valid.cumsum(1), is_valid.cumsum(2)
    y = (y - (1 - first)) / (y[:, -1:, :] + 1e-6)
    x = (x - (1 - first)) / (x[:, :, -1:] + 1e-6)
    return torch.stack([x, y], dim=-1).flatten(1, 2)
