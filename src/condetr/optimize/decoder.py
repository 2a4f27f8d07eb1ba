"""The decoders of DETR and Conditional DETR in one fast form.

Content starts as zero, so that the first self-attention, and with it the first queries of the cross-attention, depend
on the weights alone: they are computed once. What the query embeddings add to a projection is a constant as well.
"""

from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from condetr.detectors.conditional_detr import ConditionalDecoderLayer
from condetr.detectors.detr import DecoderLayer
from condetr.optimize.attention import attend, split_heads
from condetr.optimize.encoder import FastFeedForward, FastNorm
from condetr.optimize.onednn import Projection


class Affine(NamedTuple):
    """A linear map with an addend: one for all queries ("D_out"), or one for each ("Q D_out")."""

    weight: Float[Tensor, "D_out D_in"]
    addend: Tensor


class MemoryMaps(NamedTuple):
    """How a decoder layer projects the encoder's memory, and positions, to its keys and values."""

    content_key: Affine
    value: Affine
    positions: Affine


class LayerParts(NamedTuple):
    """What a decoder layer of either detector comes down to."""

    layer: ConditionalDecoderLayer | DecoderLayer
    """The reference, for its norms and feed-forward network."""
    num_heads: int
    self_attention: Affine
    """To queries, keys and values."""
    self_output: nn.Linear
    cross_query: Affine
    spatial_query: nn.Linear | None
    """Projection of p_q, which is concatenated to the content query; DETR has none."""
    cross_output: nn.Linear
    adds_positions: bool
    """Whether projected positions are added to the content key; with a spatial query they are also concatenated."""
    memory: MemoryMaps


class Memory(NamedTuple):
    """One layer's share of the projected memory."""

    content_key: Float[Tensor, "B S D"]
    value: Float[Tensor, "B S D"]
    positions: Float[Tensor, "#B S D"]
    is_padding: Bool[Tensor, "B S"] | None


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
        self.spatial_query = None if parts.spatial_query is None else Projection.of(parts.spatial_query, dtype=dtype)
        self.cross_output = Projection.of(parts.cross_output, dtype=dtype)
        self.cross_norm = FastNorm(layer.cross_attention_norm, dtype=dtype)
        self.feedforward = FastFeedForward(layer.feedforward, dtype=dtype)
        self.feedforward_norm = FastNorm(layer.feedforward_norm, dtype=dtype)

    def content(self, x: Float[Tensor, "B Q D"]) -> Float[Tensor, "B Q D"]:
        """Self-attention, added and normalised."""
        projected = self.self_attention(x).add_(self.self_addend)
        query, key, value = (split_heads(part, num_heads=self.num_heads) for part in projected.chunk(3, dim=-1))
        attended = self.self_output(attend(query, key, value, key_is_padding=None))
        return self.self_norm(attended.add_(x))  # type: ignore[no-any-return]

    def query(
        self, content: Float[Tensor, "B Q D"], p_q: Float[Tensor, "B Q D"] | None
    ) -> Float[Tensor, "B M Q D_key"]:
        """Return the queries of the cross-attention by head: content, then the spatial part if there is one."""
        parts = [self.cross_query(content).add_(self.cross_addend)]
        if self.spatial_query is not None:
            parts.append(self.spatial_query(p_q))
        return torch.cat([split_heads(part, num_heads=self.num_heads) for part in parts], dim=-1)

    def forward(
        self, content: Float[Tensor, "B Q D"], *, query: Float[Tensor, "B M Q D_key"], memory: Memory
    ) -> Float[Tensor, "B Q D"]:
        """Cross-attention and the feed-forward network, each added and normalised."""
        content_key = memory.content_key + memory.positions if self.adds_positions else memory.content_key
        parts = [content_key]
        if self.spatial_query is not None:
            parts.append(memory.positions.expand_as(content_key))
        key = torch.cat([split_heads(part, num_heads=self.num_heads) for part in parts], dim=-1)
        value = split_heads(memory.value, num_heads=self.num_heads)
        attended = attend(query, key, value, key_is_padding=memory.is_padding, logits=torch.float32)
        attended = self.cross_output(attended)
        x = self.cross_norm(attended.add_(content))
        return self.feedforward_norm(self.feedforward(x).add_(x))  # type: ignore[no-any-return]


class FastDecoder(nn.Module):
    """All decoder layers; only the last one's embedding comes out."""

    first_content: Tensor
    first_query: Tensor

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
        self.register_buffer("first_query", self.first.query(self.first_content, p_q), persistent=False)

    def forward(self, memories: list[Memory]) -> Float[Tensor, "B Q D"]:
        """Return the last layer's embedding, normalised, from each layer's share of the memory."""
        images = len(memories[0].value)
        content = self.first_content.expand(images, -1, -1)
        query = self.first_query.expand(images, -1, -1, -1)
        x: Tensor = self.first(content, query=query, memory=memories[0])
        for layer, memory in zip(self.others, memories[1:], strict=True):
            content = layer.content(x)
            p_q = None if self.spatial_query is None else self.spatial_query(x, content)
            x = layer(content, query=layer.query(content, p_q), memory=memory)
        return self.norm(x)  # type: ignore[no-any-return]


def _projection(affine: Affine, *, dtype: torch.dtype) -> Projection:
    weight = affine.weight.detach().to(dtype)
    return Projection(weight, weight.new_zeros(len(weight)))
