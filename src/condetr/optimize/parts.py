"""The products and constants of decoder layers of DETR-like detectors in the fast form."""

import copy
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condetr.layers.attention import MultiHeadAttention, is_one_sum
from condetr.layers.positions import point_embedding
from condetr.optimize.attention import query_scale
from condetr.optimize.decoder import Affine, FastDecoder, LayerParts, MemoryMaps
from condetr.optimize.onednn import with_projections


class DecoderParts(NamedTuple):
    """A fast decoder, its projections of the memory, and its reference points."""

    decoder: FastDecoder
    memory: list[MemoryMaps]
    reference_xy: Float[Tensor, "1 Q 2"] | None


LAYER = {
    "self_attention", "self_attention_norm", "cross_attention", "cross_attention_norm", "feedforward",
    "feedforward_norm", "dropout",
}  # fmt: skip
SEPARATE = {"content_query", "spatial_query", "content_key", "spatial_key", "value", "attend", "output"}
"""The parts of a cross-attention with separate projections for content and position."""


def is_known_decoder(decoder: nn.Module) -> bool:
    """Tell whether this is a stack of layers that `fast_decoder` can take apart."""
    layers = [dict(layer.named_children()) for layer in decoder.get_submodule("layers").children()]
    attentions = [layer["cross_attention"] for layer in layers if layer.keys() == LAYER]
    is_known = [is_one_sum(each) or _children(each) - {"position_query"} == SEPARATE for each in attentions]
    return len(is_known) == len(layers) and all(is_known)


def fast_decoder(detector: Any, *, dtype: torch.dtype) -> DecoderParts:  # noqa: ANN401 - see `is_known_decoder`
    """Return a detector's decoder in its fast form; reference points and their embeddings depend only on weights."""
    queries = detector.query_embedding.weight[: detector.most_objects]
    is_summed = is_one_sum(detector.decoder.layers[0].cross_attention)
    layers = [(_summed_parts if is_summed else _separate_parts)(layer, queries) for layer in detector.decoder.layers]
    points = detector.reference_points
    reference_xy: Tensor | None = None if points is None else points(queries[None])
    first_p_q = spatial_query = None
    if not is_summed and reference_xy is not None:
        p_s = point_embedding(reference_xy, dim=queries.shape[1])
        nothing = torch.zeros_like(p_s)
        first_p_q = detector.decoder.spatial_query(nothing, content=nothing, p_s=p_s, is_first=True)
        spatial_query = FastSpatialQuery(detector.decoder.spatial_query, p_s=p_s, dtype=dtype)
    decoder = FastDecoder(
        layers,
        norm=detector.decoder.norm,
        num_queries=len(queries),
        first_p_q=first_p_q,
        spatial_query=spatial_query,
        dtype=dtype,
    )
    starts_there = is_summed or detector.offset_regression
    return DecoderParts(decoder, [each.memory for each in layers], reference_xy if starts_there else None)


class FastSpatialQuery(nn.Module):
    """The spatial query of the layers after the first, for known reference points."""

    p_s: Tensor

    def __init__(self, spatial_query: nn.Module, *, p_s: Float[Tensor, "1 Q D"], dtype: torch.dtype) -> None:
        super().__init__()
        self.transform = with_projections(copy.deepcopy(spatial_query), dtype=dtype)
        self.register_buffer("p_s", p_s.to(dtype), persistent=False)

    def forward(self, x: Float[Tensor, "B Q D"], content: Float[Tensor, "B Q D"]) -> Float[Tensor, "B Q D"]:
        """Return p_q from the layer's input and its content query."""
        return self.transform(x, content=content, p_s=self.p_s.expand_as(x), is_first=False)  # type: ignore[no-any-return]


def _separate_parts(layer: Any, queries: Float[Tensor, "Q D"]) -> LayerParts:  # noqa: ANN401
    """Separate projections of content and position, q = Wc content + (Wp o + biases)."""
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
        memory=_separate_memory(cross),
    )


def _summed_parts(layer: Any, queries: Float[Tensor, "Q D"]) -> LayerParts:  # noqa: ANN401
    """One projection of content and position together, q = W (content + o) + b = W content + (W o + b)."""
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


def _separate_memory(cross: Any) -> MemoryMaps:  # noqa: ANN401
    key, value = (Affine(linear.weight, linear.bias) for linear in (cross.content_key, cross.value))
    return MemoryMaps(key, value, cross.spatial_key.weight)


def _children(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def _thirds(attention: MultiHeadAttention) -> list[Affine]:
    """Return the projections to queries, keys and values."""
    pairs = zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    return [Affine(*pair) for pair in pairs]


def _at(affine: Affine, queries: Float[Tensor, "Q D"]) -> Affine:
    """Return a projection of x + o as one of x."""
    return Affine(affine.weight, affine.addend + queries @ affine.weight.T)


def _scaled(affine: Affine, scale: float) -> Affine:
    return Affine(affine.weight * scale, affine.addend * scale)


def _stacked(*maps: Affine) -> Affine:
    return Affine(torch.cat([each.weight for each in maps]), torch.cat([each.addend for each in maps], dim=-1))
