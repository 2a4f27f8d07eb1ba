"""One image in one model: its detections, and for each of them where every head looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8

from condetr.detectors.detector import Detector
from condetr.explain.capture import cross_attention_modules, sampling_modules
from condetr.explain.cells import CellAttention, CellsOfQuery, watch_cells
from condetr.explain.measures import MapNumbers
from condetr.explain.points import PointAttention, PointsOfQuery, watch_points
from condetr.inference import DEFAULT_THRESHOLD
from condetr.inference.detect import to_detections
from condetr.inference.predictor import Predictor
from condetr.shapes import Detections, DetectorOutput


class Explanation(NamedTuple):
    """A detection, and where its query looks in one decoder layer."""

    query: int
    name: str
    score: float
    box_xyxy: Float[np.ndarray, "4"]
    """Relative to the image's width and height, as `reference_xy` is."""
    reference_xy: Float[np.ndarray, "2"] | None
    """The query's reference point, where the detector has one."""
    attention: CellsOfQuery | PointsOfQuery

    def places(self) -> list[MapNumbers]:
        """Return the measures that tell where each head looks: those of its spatial map or of its points."""
        return self.attention.places(self.box_xyxy)

    def numbers(self) -> list[dict[str, MapNumbers]]:
        """Return the measures of each head's maps or points, relative to the box."""
        return self.attention.numbers(self.box_xyxy)


@dataclass(frozen=True, kw_only=True)
class View:
    """What one decoder layer of a model attends to on an image."""

    pixels: UInt8[np.ndarray, "H W 3"]
    layer: int
    num_layers: int
    detections: Detections
    """All pairs of a query and a class, best first."""
    queries: tuple[int, ...]
    """The query of each detection."""
    attention: CellAttention | PointAttention
    threshold: float = DEFAULT_THRESHOLD
    """The least score of a detection where none is asked for."""

    def explain(self, rank: int) -> Explanation:
        """Explain a detection by its rank, 0 being the best."""
        query = self.queries[rank]
        reference_xy = self.attention.reference_xy
        return Explanation(
            query=query,
            name=self.detections.names[rank],
            score=float(self.detections.scores[rank]),
            box_xyxy=self.box_xyxy(rank),
            reference_xy=None if reference_xy is None else reference_xy[query],
            attention=self.attention.of(query),
        )

    def box_xyxy(self, rank: int) -> Float[np.ndarray, "4"]:
        """Return the box of a detection relative to the image's width and height."""
        height, width = self.pixels.shape[:2]
        box_xyxy: np.ndarray = self.detections.boxes_xyxy[rank] / np.array([width, height, width, height], np.float32)
        return box_xyxy


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
    """Run a model on an RGB image and keep what one decoder layer attends to, by default the last.

    Raises InputError if the model has no such layer.
    """
    last = num_layers(predictor.detector) - 1
    return _look(predictor, pixels, layers=[last if layer is None else layer]).views[0]


def look_into_all(predictor: Predictor, pixels: UInt8[np.ndarray, "H W 3"]) -> Depths:
    """Run a model on an RGB image and keep what every decoder layer attends to and takes the objects for."""
    return _look(predictor, pixels, layers=range(num_layers(predictor.detector)))


def num_layers(detector: Detector) -> int:
    """Return how many decoder layers can be explained; raises InputError if none."""
    return len(sampling_modules(detector) if detector.looks_at == "points" else cross_attention_modules(detector))


@torch.inference_mode()
def _look(predictor: Predictor, pixels: UInt8[np.ndarray, "H W 3"], *, layers: Sequence[int]) -> Depths:
    detector = predictor.detector
    watch = watch_points if detector.looks_at == "points" else watch_cells
    batch = predictor.make_batch([pixels]).to(predictor.device)
    with watch(detector, layers=layers) as attention:
        output: DetectorOutput = detector(batch.normalised(), batch.is_padding)
    (size_hw,) = batch.original_sizes_hw
    # Proposals, which tell no classes, are made before the decoder.
    sets = [each for each in output.sets if not each.class_agnostic]
    found = []
    for each in sets if len(layers) > 1 else sets[-1:]:
        (best,) = detector.found(DetectorOutput((each,)), limit=each.prediction.logits[0].numel())
        detections = to_detections(best, size_hw=size_hw, label_map=predictor.label_map)
        found.append((detections, tuple(best.source.tolist())))
    detections, queries = found[-1]
    views = (
        View(
            pixels=pixels,
            layer=layer,
            num_layers=num_layers(detector),
            detections=detections,
            queries=queries,
            attention=attention(layer),
            threshold=predictor.threshold,
        )
        for layer in layers
    )
    return Depths(tuple(views), tuple(found))
