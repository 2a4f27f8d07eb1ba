"""What the decoder layers of each detector come down to: the products and constants of the fast form."""

import copy
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condetr.detectors.conditional_detr import ConditionalCrossAttention, ConditionalDecoderLayer, ConditionalDetr
from condetr.detectors.detr import DecoderLayer, Detr
from condetr.layers.attention import MultiHeadAttention
from condetr.layers.positions import point_embedding
from condetr.optimize.attention import query_scale
from condetr.optimize.decoder import Affine, FastDecoder, LayerParts, MemoryMaps
from condetr.optimize.onednn import with_projections


class DecoderParts(NamedTuple):
    """A fast decoder, what it wants of the memory, and the points that its boxes start from."""

    decoder: FastDecoder
    memory: list[MemoryMaps]
    reference_xy: Float[Tensor, "1 Q 2"] | None


def fast_decoder(detector: ConditionalDetr | Detr, *, dtype: torch.dtype) -> DecoderParts:
    """Return the decoder of either detector in its fast form."""
    if isinstance(detector, ConditionalDetr):
        return _conditional_decoder(detector, dtype=dtype)
    return _detr_decoder(detector, dtype=dtype)


def _conditional_decoder(detector: ConditionalDetr, *, dtype: torch.dtype) -> DecoderParts:
    """Return Conditional DETR's decoder; reference points and their embeddings p_s depend on the weights alone."""
    queries = detector.query_embedding.weight[: detector.num_queries]
    layers = [
        _conditional_parts(layer, queries=queries)
        for layer in cast("list[ConditionalDecoderLayer]", detector.decoder.layers)
    ]
    reference_xy = detector.reference_points(queries[None])
    p_s = point_embedding(reference_xy, dim=queries.shape[1])
    nothing = torch.zeros_like(p_s)
    first_p_q = detector.decoder.spatial_query(nothing, content=nothing, p_s=p_s, is_first=True)
    decoder = FastDecoder(
        layers,
        norm=detector.decoder.norm,
        num_queries=len(queries),
        first_p_q=first_p_q,
        spatial_query=FastSpatialQuery(detector.decoder.spatial_query, p_s=p_s, dtype=dtype),
        dtype=dtype,
    )
    return DecoderParts(decoder, [each.memory for each in layers], reference_xy if detector.offset_regression else None)


def _detr_decoder(detector: Detr, *, dtype: torch.dtype) -> DecoderParts:
    """Return DETR's decoder, which has no spatial query and, in its published form, no reference points."""
    queries = detector.query_embedding.weight
    layers = [_detr_parts(layer, queries=queries) for layer in cast("list[DecoderLayer]", detector.decoder.layers)]
    decoder = FastDecoder(
        layers,
        norm=detector.decoder.norm,
        num_queries=len(queries),
        first_p_q=None,
        spatial_query=None,
        dtype=dtype,
    )
    points = detector.reference_points
    return DecoderParts(decoder, [each.memory for each in layers], None if points is None else points(queries[None]))


class FastSpatialQuery(nn.Module):
    """The spatial query of the layers after the first, around points that are known."""

    p_s: Tensor

    def __init__(self, spatial_query: nn.Module, *, p_s: Float[Tensor, "1 Q D"], dtype: torch.dtype) -> None:
        super().__init__()
        self.transform = with_projections(copy.deepcopy(spatial_query), dtype=dtype)
        self.register_buffer("p_s", p_s.to(dtype), persistent=False)

    def forward(self, x: Float[Tensor, "B Q D"], content: Float[Tensor, "B Q D"]) -> Float[Tensor, "B Q D"]:
        """Return p_q from the layer's input and its content query."""
        return self.transform(x, content=content, p_s=self.p_s.expand_as(x), is_first=False)  # type: ignore[no-any-return]


def _conditional_parts(layer: ConditionalDecoderLayer, *, queries: Float[Tensor, "Q D"]) -> LayerParts:
    """Conditional DETR: content and position have maps of their own, q = Wc content + (Wp o + biases)."""
    own, cross = layer.self_attention, layer.cross_attention
    contents = (own.content_query, own.content_key, own.value)
    places = (own.position_query(queries), own.position_key(queries), torch.zeros_like(queries))
    place = torch.zeros_like(queries) if cross.position_query is None else cross.position_query(queries)
    query, key, value = (Affine(each.weight, each.bias + place) for each, place in zip(contents, places, strict=True))
    width = queries.shape[1] // own.attend.num_heads
    return LayerParts(
        layer=layer,
        num_heads=own.attend.num_heads,
        self_attention=_stacked(_scaled(query, query_scale(width)), key, value),
        self_output=own.output,
        cross_query=_scaled(
            Affine(cross.content_query.weight, cross.content_query.bias + place), query_scale(2 * width)
        ),
        spatial_query=_scaled(Affine(cross.spatial_query.weight, cross.spatial_query.bias), query_scale(2 * width)),
        cross_output=cross.output,
        adds_positions=cross.position_query is not None,
        memory=_conditional_memory(cross),
    )


def _detr_parts(layer: DecoderLayer, *, queries: Float[Tensor, "Q D"]) -> LayerParts:
    """DETR: one map for content and position together, q = W (content + o) + b = W content + (W o + b)."""
    own, cross = layer.self_attention, layer.cross_attention
    scale = query_scale(queries.shape[1] // own.attend.num_heads)
    query, key, value = _thirds(own)
    cross_query, cross_key, cross_value = _thirds(cross)
    return LayerParts(
        layer=layer,
        num_heads=own.attend.num_heads,
        self_attention=_stacked(
            _scaled(_at(query, queries), scale), _at(key, queries), _at(value, torch.zeros_like(queries))
        ),
        self_output=own.out_proj,
        cross_query=_scaled(_at(cross_query, queries), scale),
        spatial_query=None,
        cross_output=cross.out_proj,
        adds_positions=True,
        memory=MemoryMaps(cross_key, cross_value, cross_key.weight),
    )


def _conditional_memory(cross: ConditionalCrossAttention) -> MemoryMaps:
    key, value = (Affine(linear.weight, linear.bias) for linear in (cross.content_key, cross.value))
    return MemoryMaps(key, value, cross.spatial_key.weight)


def _thirds(attention: MultiHeadAttention) -> list[Affine]:
    """Return the maps to queries, keys and values."""
    pairs = zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    return [Affine(*pair) for pair in pairs]


def _at(affine: Affine, queries: Float[Tensor, "Q D"]) -> Affine:
    """Return a map of x + o as one of x."""
    return Affine(affine.weight, affine.addend + queries @ affine.weight.T)


def _scaled(affine: Affine, scale: float) -> Affine:
    return Affine(affine.weight * scale, affine.addend * scale)


def _stacked(*maps: Affine) -> Affine:
    return Affine(torch.cat([each.weight for each in maps]), torch.cat([each.addend for each in maps], dim=-1))
