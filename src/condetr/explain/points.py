"""Attention that looks at a few points: where each head's points lie in every level, and how much each counts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import nn

from condetr.explain.capture import Sampled, capture_sampling
from condetr.explain.measures import MapNumbers, measure_points


class PointsOfQuery(NamedTuple):
    """Where a query looks in one decoder layer; the weights of each head sum to 1 over the points of all levels."""

    points_xy: Float[np.ndarray, "M V P 2"]
    """Relative to the image; what is outside counts as 0."""
    weights: Float[np.ndarray, "M V P"]

    def numbers(self, box_xyxy: Float[np.ndarray, "4"]) -> list[dict[str, MapNumbers]]:
        """Return the numbers of each head's points, those of all levels together."""
        return [{"points": each} for each in self.places(box_xyxy)]

    def places(self, box_xyxy: Float[np.ndarray, "4"]) -> list[MapNumbers]:
        """Return the numbers of each head's points, those of all levels together."""
        heads = zip(self.points_xy, self.weights, strict=True)
        return [measure_points(xy, weights, box_xyxy=box_xyxy) for xy, weights in heads]

    def of_heads(self) -> list[dict[str, Any]]:
        """Return the weight of each level and of what lies in the image, of each head, as plain data."""
        heads = zip(self.by_level().tolist(), self.in_image().tolist(), strict=True)
        return [{"by_level": levels, "in_image": share} for levels, share in heads]

    def arrays(self) -> dict[str, Float[np.ndarray, "..."]]:
        """Return points and weights by name."""
        return self._asdict()

    def by_level(self) -> Float[np.ndarray, "M V"]:
        """Return how much each level counts in each head."""
        weights: np.ndarray = self.weights.sum(axis=-1)
        return weights

    def in_image(self) -> Float[np.ndarray, " M"]:
        """Return how much of each head's weight lies in the image."""
        is_in = ((self.points_xy >= 0) & (self.points_xy <= 1)).all(axis=-1)
        weights: np.ndarray = (self.weights * is_in).sum(axis=(1, 2))
        return weights


class PointAttention(NamedTuple):
    """The points of all queries in one decoder layer, on one image."""

    sampled: Sampled

    @property
    def reference_xy(self) -> Float[np.ndarray, "Q 2"]:
        """The places that the points were placed around."""
        reference_xy: np.ndarray = self.sampled.reference_xy[0].cpu().numpy()
        return reference_xy

    def of(self, query: int) -> PointsOfQuery:
        """Return where a query looks."""
        return PointsOfQuery(*(part[0, query].float().cpu().numpy() for part in self.sampled[:2]))

    def facts(self) -> dict[str, Any]:
        """Return plain data about the layer."""
        levels, points = self.sampled.weights.shape[-2:]
        return {"levels": levels, "points_in_a_level": points}


@contextmanager
def watch_points(detector: nn.Module, *, layers: Sequence[int]) -> Iterator[Callable[[int], PointAttention]]:
    """Within the block, a forward pass of one image leaves the points of the chosen layers here."""
    with capture_sampling(detector, layers=layers) as seen:
        yield lambda layer: PointAttention(seen[layer])
