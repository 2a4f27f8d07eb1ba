"""Projections of the memory and of positions, joined over all layers.

All decoder layers read the same memory, so their projections are stacked into one product. All layers also read the
same positions, which without padding depend only on the map's size: their projections are cached.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.layers.encoder import EncoderLayer
from condetr.layers.positions import position_map
from condetr.optimize.decoder import Affine, Memory, MemoryMaps, PositionalKeys
from condetr.optimize.encoder import scaled_queries
from condetr.optimize.onednn import Projection

KEPT_SIZES = 4
"""Number of map sizes whose projected positions are cached: 10 MiB each for 850 cells in bf16, 6 layers, width 256."""


class Positions(NamedTuple):
    """Projected positions, one entry for each layer; those of the decoder are in fp32, since they locate boxes."""

    encoder: tuple[Float[Tensor, "#B S 3*D"], ...]
    """Added to queries and keys; zeros for values."""
    decoder: tuple[PositionalKeys, ...]


class PositionProjections(nn.Module):
    """Positions, projected for every encoder and decoder layer."""

    of_y: Tensor
    of_x: Tensor

    def __init__(self, encoder: list[EncoderLayer], decoder: list[MemoryMaps], *, dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.dim = dim
        weights = [scaled_queries(layer.self_attention)[0] for layer in encoder]
        for weight in weights:
            weight[2 * dim :] = 0
        self.projection = _joined(
            [Affine(weight, weight.new_zeros(3 * dim)) for weight in weights], dtype=torch.float32
        )
        # Embeddings have the channels of y before those of x.
        of_y, of_x = torch.cat([maps.position for maps in decoder]).detach().split(dim // 2, dim=1)
        self.register_buffer("of_y", of_y, persistent=False)
        self.register_buffer("of_x", of_x, persistent=False)
        self.dtype = dtype
        self.kept: dict[tuple[int, int], Positions] = {}

    def forward(self, is_padding: Bool[Tensor, "B H W"], *, is_padded: bool) -> Positions:
        """Project the positions of a map's cells; without padding they are computed once for each size."""
        if is_padded:
            return self._project(is_padding)
        _, height, width = is_padding.shape
        if (height, width) not in self.kept:
            if len(self.kept) == KEPT_SIZES:
                self.kept.pop(next(iter(self.kept)))
            self.kept[height, width] = self._project(is_padding[:1])
        return self.kept[height, width]

    def _project(self, is_padding: Bool[Tensor, "B H W"]) -> Positions:
        row_is_padding, column_is_padding = is_padding.all(2, keepdim=True), is_padding.all(1, keepdim=True)
        cells = self.projection(position_map(is_padding, dim=self.dim)).to(self.dtype)
        rows = F.linear(position_map(row_is_padding, dim=self.dim)[..., : self.dim // 2], self.of_y)
        columns = F.linear(position_map(column_is_padding, dim=self.dim)[..., self.dim // 2 :], self.of_x)
        keys = zip(rows.split(self.dim, dim=-1), columns.split(self.dim, dim=-1), strict=True)
        return Positions(
            encoder=tuple(part.contiguous() for part in cells.split(3 * self.dim, dim=-1)),
            decoder=tuple(PositionalKeys(*each) for each in keys),
        )


class MemoryProjections(nn.Module):
    """The memory, projected to the content keys and values of every decoder layer."""

    def __init__(self, layers: list[MemoryMaps], *, dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.dim = dim
        self.projection = _joined([each for maps in layers for each in (maps.content_key, maps.value)], dtype=dtype)

    def forward(
        self,
        memory: Float[Tensor, "B S D"],
        *,
        positions: tuple[PositionalKeys, ...],
        is_padding: Bool[Tensor, "B S"] | None,
    ) -> list[Memory]:
        """Return each layer's share."""
        keys_and_values = self.projection(memory).split(self.dim, dim=-1)
        return [
            Memory(content_key=key, value=value, positions=place, is_padding=is_padding)
            for key, value, place in zip(keys_and_values[::2], keys_and_values[1::2], positions, strict=True)
        ]


def _joined(maps: list[Affine], *, dtype: torch.dtype) -> Projection:
    weight, bias = torch.cat([each.weight for each in maps]), torch.cat([each.addend for each in maps])
    return Projection(weight.to(dtype), bias.to(dtype))
