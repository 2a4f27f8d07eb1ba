"""Projections of the memory and of positions, joined over all layers.

All decoder layers read the same memory, so that their maps stacked on one another are one product. All layers read the
same positions too, which without padding depend on nothing but the map's size: their projections are kept.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from condetr.layers.encoder import EncoderLayer
from condetr.layers.positions import position_map
from condetr.optimize.decoder import Affine, Memory, MemoryMaps
from condetr.optimize.onednn import Projection

KEPT_SIZES = 4
"""Map sizes whose projected positions are kept: 10 MiB each for 850 cells in bf16, 6 layers and width 256."""


class Positions(NamedTuple):
    """Projected positions, one entry for each layer; those of the decoder are in fp32, since they locate boxes."""

    encoder: tuple[Float[Tensor, "#B S 2*D"], ...]
    """To queries and keys."""
    decoder: tuple[Float[Tensor, "#B S D"], ...]


class PositionProjections(nn.Module):
    """Positions, projected for every encoder and decoder layer."""

    def __init__(self, encoder: list[EncoderLayer], decoder: list[MemoryMaps], *, dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.dim = dim
        self.num_encoder_layers = len(encoder)
        queries_and_keys = [layer.self_attention.in_proj_weight[: 2 * dim] for layer in encoder]
        without_bias = [Affine(weight, weight.new_zeros(len(weight))) for weight in queries_and_keys]
        self.projection = _joined([*without_bias, *(maps.positions for maps in decoder)], dtype=torch.float32)
        self.dtype = dtype
        self.kept: dict[tuple[int, int], Positions] = {}

    def forward(self, is_padding: Bool[Tensor, "B H W"], *, is_padded: bool) -> Positions:
        """Project the positions of a map's cells; those of a map without padding are computed once for each size."""
        if is_padded:
            return self._project(is_padding)
        _, height, width = is_padding.shape
        if (height, width) not in self.kept:
            if len(self.kept) == KEPT_SIZES:
                self.kept.pop(next(iter(self.kept)))
            self.kept[height, width] = self._project(is_padding[:1])
        return self.kept[height, width]

    def _project(self, is_padding: Bool[Tensor, "B H W"]) -> Positions:
        projected = self.projection(position_map(is_padding, dim=self.dim))
        for_encoder = 2 * self.dim * self.num_encoder_layers
        encoder = projected[..., :for_encoder].to(self.dtype).split(2 * self.dim, dim=-1)
        return Positions(encoder=encoder, decoder=projected[..., for_encoder:].split(self.dim, dim=-1))


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
        positions: tuple[Float[Tensor, "#B S D"], ...],
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
