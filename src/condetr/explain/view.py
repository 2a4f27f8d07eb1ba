"""One image in one model: its detections, and for each of them the attention of every head."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from condetr.explain.capture import (
    AttentionLogits,
    attention_map,
    capture_cross_attention,
    cross_attention_modules,
)
from condetr.explain.measures import MapNumbers, measure
from condetr.inference import DEFAULT_THRESHOLD
from condetr.inference.detect import to_detections
from condetr.inference.predictor import Predictor
from condetr.layers.attention import is_one_sum
from condetr.layers.features import FeatureMap
from condetr.layers.queries import ReferencePoints
from condetr.shapes import Detections, DetectorOutput


class Maps(NamedTuple):
    """Each head's attention over the cells of the feature map; every map sums to 1."""

    spatial: Float[np.ndarray, "M h w"]
    content: Float[np.ndarray, "M h w"]
    combined: Float[np.ndarray, "M h w"]


class Explanation(NamedTuple):
    """A detection, and the attention of its query in one decoder layer."""

    query: int
    name: str
    score: float
    box_xyxy: Float[np.ndarray, "4"]
    """Relative to the image's width and height, as `reference_xy` is."""
    reference_xy: Float[np.ndarray, "2"] | None
    """The query's reference point, where the detector has one."""
    maps: Maps
    spatial_logits: Float[np.ndarray, "M h w"]
    content_logits: Float[np.ndarray, "M h w"]

    def spatial_numbers(self) -> list[MapNumbers]:
        """Return the measures of each head's spatial map, relative to the box."""
        return [measure(each, box_xyxy=self.box_xyxy) for each in self.maps.spatial]


@dataclass(frozen=True, kw_only=True)
class View:
    """The attention of one decoder layer of a model on an image."""

    pixels: UInt8[np.ndarray, "H W 3"]
    layer: int
    num_layers: int
    is_one_sum: bool
    """True if content and position are added into one query and one key, as in DETR."""
    detections: Detections
    """All pairs of a query and a class, best first."""
    queries: tuple[int, ...]
    """The query of each detection."""
    reference_xy: Float[np.ndarray, "Q 2"] | None
    logits: AttentionLogits
    map_size_hw: tuple[int, int]
    threshold: float = DEFAULT_THRESHOLD
    """The least score of a detection where none is asked for."""

    @property
    def is_mixed(self) -> bool:
        """True if the positions are also part of the content: in the first layer of Conditional DETR."""
        return self.layer == 0 and not self.is_one_sum

    def explain(self, rank: int) -> Explanation:
        """Explain a detection by its rank, 0 being the best."""
        query = self.queries[rank]
        height, width = self.pixels.shape[:2]
        return Explanation(
            query=query,
            name=self.detections.names[rank],
            score=float(self.detections.scores[rank]),
            box_xyxy=self.detections.boxes_xyxy[rank] / np.array([width, height, width, height], np.float32),
            reference_xy=None if self.reference_xy is None else self.reference_xy[query],
            maps=Maps(*(self._map(part, query) for part in ("spatial", "content", "combined"))),
            spatial_logits=self._grid(self.logits.spatial[0, :, query]),
            content_logits=self._grid(self.logits.content[0, :, query]),
        )

    def _map(self, part: str, query: int) -> Float[np.ndarray, "M h w"]:
        logits: Tensor = getattr(self.logits, part)[:, :, query : query + 1]
        return self._grid(attention_map(logits, key_is_padding=self.logits.key_is_padding)[0, :, 0])

    def _grid(self, cells: Float[Tensor, "M S"]) -> Float[np.ndarray, "M h w"]:
        grid: np.ndarray = cells.view(-1, *self.map_size_hw).cpu().numpy()
        return grid


class Guess(NamedTuple):
    """What one decoder layer takes a query's object for."""

    name: str
    score: float
    box_xyxy: Float[np.ndarray, "4"]
    """Relative to the image's width and height."""


class Depths(NamedTuple):
    """An image as every decoder layer of a model sees it, the first layer first."""

    views: tuple[View, ...]
    """The detections in each of them are those of the last layer."""
    found: tuple[tuple[Detections, tuple[int, ...]], ...]
    """Of each layer that predicts, its detections, and the query of each."""

    def guesses(self, query: int) -> list[Guess]:
        """Return what each layer that predicts takes a query's object for."""
        height, width = self.views[0].pixels.shape[:2]
        size = np.array([width, height, width, height], np.float32)
        return [
            Guess(found.names[rank], float(found.scores[rank]), found.boxes_xyxy[rank] / size)
            for found, queries in self.found
            for rank in [queries.index(query)]
        ]


def look(predictor: Predictor, pixels: UInt8[np.ndarray, "H W 3"], *, layer: int | None = None) -> View:
    """Run a model on an RGB image and keep the attention of one decoder layer, by default the last.

    Raises InputError if the model has no such layer.
    """
    last = len(cross_attention_modules(predictor.detector)) - 1
    return _look(predictor, pixels, layers=[last if layer is None else layer]).views[0]


def look_into_all(predictor: Predictor, pixels: UInt8[np.ndarray, "H W 3"]) -> Depths:
    """Run a model on an RGB image and keep what every decoder layer attends to and takes the objects for."""
    return _look(predictor, pixels, layers=range(len(cross_attention_modules(predictor.detector))))


@torch.inference_mode()
def _look(predictor: Predictor, pixels: UInt8[np.ndarray, "H W 3"], *, layers: Sequence[int]) -> Depths:
    modules = cross_attention_modules(predictor.detector)
    batch = predictor.make_batch([pixels]).to(predictor.device)
    with capture_cross_attention(predictor.detector, layers=layers) as logits, _shapes(predictor.detector) as shapes:
        output: DetectorOutput = predictor.detector(batch.normalised(), batch.is_padding)
    (size_hw,) = batch.original_sizes_hw
    found = []
    for each in output.sets if len(layers) > 1 else output.sets[-1:]:
        (best,) = predictor.detector.found(DetectorOutput((each,)), limit=each.prediction.logits[0].numel())
        detections = to_detections(best, size_hw=size_hw, label_map=predictor.label_map)
        found.append((detections, tuple(best.source.tolist())))
    detections, queries = found[-1]
    views = (
        View(
            pixels=pixels,
            layer=layer,
            num_layers=len(modules),
            is_one_sum=is_one_sum(modules[layer]),
            detections=detections,
            queries=queries,
            reference_xy=shapes.reference_xy,
            logits=logits[layer],
            map_size_hw=shapes.map_size_hw,
            threshold=predictor.threshold,
        )
        for layer in layers
    )
    return Depths(tuple(views), tuple(found))


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
