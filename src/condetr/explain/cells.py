"""Attention that weighs every cell of a feature map: each head's spatial, content and combined map."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from condetr.explain.capture import (
    AttentionLogits,
    attention_map,
    capture_cross_attention,
    cross_attention_modules,
)
from condetr.explain.measures import MapNumbers, measure
from condetr.layers.attention import is_one_sum
from condetr.layers.features import FeatureMap
from condetr.layers.queries import ReferencePoints


class Maps(NamedTuple):
    """Each head's attention over the cells of the feature map; every map sums to 1."""

    spatial: Float[np.ndarray, "M h w"]
    content: Float[np.ndarray, "M h w"]
    combined: Float[np.ndarray, "M h w"]


class CellsOfQuery(NamedTuple):
    """A query's attention in one decoder layer."""

    maps: Maps
    spatial_logits: Float[np.ndarray, "M h w"]
    content_logits: Float[np.ndarray, "M h w"]

    def numbers(self, box_xyxy: Float[np.ndarray, "4"]) -> list[dict[str, MapNumbers]]:
        """Return the numbers of each head's spatial, content and combined map."""
        parts = self.maps._asdict()
        return [
            {part: measure(attention, box_xyxy=box_xyxy) for part, attention in zip(parts, head, strict=True)}
            for head in zip(*parts.values(), strict=True)
        ]

    def places(self, box_xyxy: Float[np.ndarray, "4"]) -> list[MapNumbers]:
        """Return the numbers of each head's spatial map, which tells where it looks whatever is there."""
        return [measure(each, box_xyxy=box_xyxy) for each in self.maps.spatial]

    def of_heads(self) -> list[dict[str, Any]]:
        """Return what else there is to say of each head, as plain data: nothing."""
        return [{} for _ in self.maps.spatial]

    def arrays(self) -> dict[str, Float[np.ndarray, "M h w"]]:
        """Return the maps and logits by name."""
        return {
            **self.maps._asdict(),
            "spatial_logits": self.spatial_logits,
            "content_logits": self.content_logits,
        }


class CellAttention(NamedTuple):
    """The attention of all queries in one decoder layer, on one image."""

    logits: AttentionLogits
    map_size_hw: tuple[int, int]
    is_one_sum: bool
    """True if content and position are added into one query and one key, as in DETR."""
    is_mixed: bool
    """True if the positions are also part of the content: in the first layer of Conditional DETR."""
    reference_xy: Float[np.ndarray, "Q 2"] | None
    """The reference points, where the detector has them."""

    def of(self, query: int) -> CellsOfQuery:
        """Return the attention of a query."""
        return CellsOfQuery(
            maps=Maps(*(self._map(part, query) for part in Maps._fields)),
            spatial_logits=self._grid(self.logits.spatial[0, :, query]),
            content_logits=self._grid(self.logits.content[0, :, query]),
        )

    def facts(self) -> dict[str, Any]:
        """Return plain data about the layer."""
        return {"content_holds_positions": self.is_mixed}

    def _map(self, part: str, query: int) -> Float[np.ndarray, "M h w"]:
        logits: Tensor = getattr(self.logits, part)[:, :, query : query + 1]
        return self._grid(attention_map(logits, key_is_padding=self.logits.key_is_padding)[0, :, 0])

    def _grid(self, cells: Float[Tensor, "M S"]) -> Float[np.ndarray, "M h w"]:
        grid: np.ndarray = cells.view(-1, *self.map_size_hw).cpu().numpy()
        return grid


@contextmanager
def watch_cells(detector: nn.Module, *, layers: Sequence[int]) -> Iterator[Callable[[int], CellAttention]]:
    """Within the block, a forward pass of one image leaves the attention of the chosen layers here."""
    modules = cross_attention_modules(detector)

    def attention(layer: int) -> CellAttention:
        one_sum = is_one_sum(modules[layer])
        return CellAttention(
            logits[layer],
            shapes.map_size_hw,
            is_one_sum=one_sum,
            is_mixed=layer == 0 and not one_sum,
            reference_xy=shapes.reference_xy,
        )

    with capture_cross_attention(detector, layers=layers) as logits, _shapes(detector) as shapes:
        yield attention


class _Shapes:
    """The positions of the cells and queries in a forward pass; filled while it runs."""

    map_size_hw: tuple[int, int]
    reference_xy: Float[np.ndarray, "Q 2"] | None = None

    def see_map(self, _: nn.Module, __: object, features: Float[Tensor, "1 D h w"]) -> None:
        height, width = features.shape[-2:]
        self.map_size_hw = (height, width)

    def see_points(self, _: nn.Module, __: object, points_xy: Float[Tensor, "1 Q 2"]) -> None:
        self.reference_xy = points_xy[0].float().cpu().numpy()


@contextmanager
def _shapes(detector: nn.Module) -> Iterator[_Shapes]:
    shapes = _Shapes()
    with ExitStack() as stack:
        for module in detector.modules():
            if isinstance(module, FeatureMap):
                stack.enter_context(module.projection.register_forward_hook(shapes.see_map))
            if isinstance(module, ReferencePoints):
                stack.enter_context(module.register_forward_hook(shapes.see_points))
        yield shapes
