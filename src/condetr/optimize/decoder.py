"""The fast form of the decoders of DETR and Conditional DETR.

Content starts as zero. The first self-attention, and thereby the first queries of the cross-attention, therefore depend
only on the weights, and are computed once. The query embeddings' contribution to a projection is also a constant.
"""

from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from condetr.optimize.attention import Places, attend, split_heads
from condetr.optimize.encoder import FastFeedForward, FastNorm
from condetr.optimize.onednn import Projection


class Affine(NamedTuple):
    """A linear map with an addend: one for all queries ("D_out"), or one for each ("Q D_out")."""

    weight: Float[Tensor, "D_out D_in"]
    addend: Tensor


class MemoryMaps(NamedTuple):
    """The projections of the encoder's memory and of positions to the keys and values of a decoder layer."""

    content_key: Affine
    value: Affine
    position: Float[Tensor, "D D"]
    """Without its bias: adding the same vector to all keys does not change the softmax."""


class LayerParts(NamedTuple):
    """The common form of a decoder layer of either detector."""

    layer: Any
    """The original layer, for its norms and feed-forward network."""
    num_heads: int
    self_attention: Affine
    """Projections to queries, keys and values."""
    self_output: nn.Linear
    cross_query: Affine
    spatial_query: Affine | None
    """Computes p_q, which is concatenated to the content query; DETR has none."""
    cross_output: nn.Linear
    adds_positions: bool
    """True if projected positions are added to the content key; with a spatial query they are also concatenated."""
    memory: MemoryMaps


class PositionalKeys(NamedTuple):
    """A decoder layer's projected positions: that of the cell in row y and column x is rows[y] + columns[x]."""

    rows: Float[Tensor, "#B H D"]
    columns: Float[Tensor, "#B W D"]


class Memory(NamedTuple):
    """One layer's share of the projected memory."""

    content_key: Float[Tensor, "B S D"]
    value: Float[Tensor, "B S D"]
    positions: PositionalKeys
    is_padding: Bool[Tensor, "B S"] | None


class Query(NamedTuple):
    """The two parts of a cross-attention's queries."""

    of_content: Float[Tensor, "B M Q D"]
    of_position: Float[Tensor, "B M Q D"]


class FastDecoderLayer(nn.Module):
    """A decoder layer with fixed weights."""

    def __init__(self, parts: LayerParts, *, dtype: torch.dtype) -> None:
        super().__init__()
        layer = parts.layer
        self.num_heads = parts.num_heads
        self.adds_positions = parts.adds_positions
        self.self_attention = _projection(parts.self_attention, dtype=dtype)
        self.register_buffer("self_addend", parts.self_attention.addend.detach().to(dtype), persistent=False)
        self.self_output = Projection.of(parts.self_output, dtype=dtype)
        self.self_norm = FastNorm(layer.self_attention_norm, dtype=dtype)
        self.cross_query = _projection(parts.cross_query, dtype=dtype)
        self.register_buffer("cross_addend", parts.cross_query.addend.detach().to(dtype), persistent=False)
        self.spatial_query = None if parts.spatial_query is None else _projection(parts.spatial_query, dtype=dtype)
        self.cross_output = Projection.of(parts.cross_output, dtype=dtype)
        self.cross_norm = FastNorm(layer.cross_attention_norm, dtype=dtype)
        self.feedforward = FastFeedForward(layer.feedforward, dtype=dtype)
        self.feedforward_norm = FastNorm(layer.feedforward_norm, dtype=dtype)

    def content(self, x: Float[Tensor, "B Q D"]) -> Float[Tensor, "B Q D"]:
        """Self-attention, added and normalised."""
        projected = self.self_attention(x, self.self_addend)
        query, key, value = (split_heads(part, num_heads=self.num_heads) for part in projected.chunk(3, dim=-1))
        return self.self_norm(self.self_output(attend(query, key, value, key_is_padding=None), x))  # type: ignore[no-any-return]

    def query(self, content: Float[Tensor, "B Q D"], p_q: Float[Tensor, "B Q D"] | None) -> Query:
        """Return the cross-attention's content queries and spatial queries, by head."""
        of_content = of_position = self.cross_query(content, self.cross_addend)
        if self.spatial_query is not None:
            of_position = self.spatial_query(p_q, of_content if self.adds_positions else None)
        return Query(*(split_heads(part, num_heads=self.num_heads) for part in (of_content, of_position)))

    def forward(self, content: Float[Tensor, "B Q D"], *, query: Query, memory: Memory) -> Float[Tensor, "B Q D"]:
        """Cross-attention and the feed-forward network, each added and normalised."""
        key, value, row_keys, column_keys = (
            split_heads(part, num_heads=self.num_heads)
            for part in (memory.content_key, memory.value, *memory.positions)
        )
        places = Places(query.of_position, row_keys, column_keys)
        attended = attend(query.of_content, key, value, key_is_padding=memory.is_padding, places=places)
        x = self.cross_norm(self.cross_output(attended, content))
        return self.feedforward_norm(self.feedforward(x, x))  # type: ignore[no-any-return]


class FastDecoder(nn.Module):
    """All decoder layers; returns only the last one's embedding."""

    first_content: Tensor
    first_content_query: Tensor
    first_position_query: Tensor

    def __init__(
        self,
        layers: list[LayerParts],
        *,
        norm: nn.LayerNorm,
        num_queries: int,
        first_p_q: Float[Tensor, "1 Q D"] | None,
        spatial_query: nn.Module | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        fast = [FastDecoderLayer(parts, dtype=dtype) for parts in layers]
        self.first, self.others = fast[0], cast("list[FastDecoderLayer]", nn.ModuleList(fast[1:]))
        self.norm = FastNorm(norm, dtype=dtype)
        self.spatial_query = spatial_query
        zeros = torch.zeros(1, num_queries, *norm.normalized_shape, dtype=dtype, device=norm.weight.device)
        self.register_buffer("first_content", self.first.content(zeros), persistent=False)
        p_q = None if first_p_q is None else first_p_q.to(dtype)
        query = self.first.query(self.first_content, p_q)
        self.register_buffer("first_content_query", query.of_content, persistent=False)
        self.register_buffer("first_position_query", query.of_position, persistent=False)

    def forward(self, memories: list[Memory]) -> Float[Tensor, "B Q D"]:
        """Return the last layer's embedding, normalised, from each layer's share of the memory."""
        images = len(memories[0].value)
        content = self.first_content.expand(images, -1, -1)
        first = self.first_content_query, self.first_position_query
        query = Query(*(part.expand(images, -1, -1, -1) for part in first))
        x: Tensor = self.first(content, query=query, memory=memories[0])
        for layer, memory in zip(self.others, memories[1:], strict=True):
            content = layer.content(x)
            p_q = None if self.spatial_query is None else self.spatial_query(x, content)
            x = layer(content, query=layer.query(content, p_q), memory=memory)
        return self.norm(x)  # type: ignore[no-any-return]


def _projection(affine: Affine, *, dtype: torch.dtype) -> Projection:
    """Return the projection; an addend for each query is left to the caller."""
    weight, addend = affine.weight.detach().to(dtype), affine.addend.detach().to(dtype)
    return Projection(weight, addend if addend.dim() == 1 else weight.new_zeros(len(weight)))
