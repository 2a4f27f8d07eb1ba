"""Types that several packages share, and the letters of tensor axes.

    B image in a batch    Q query    K class    D channel    M head    S cell of a feature map (H*W)
    R region    T target box          L decoder layer       H W height and width   V feature map of several (level)

Names of boxes give their format: `boxes_cxcywh` are centre, width and height relative to the image's own size, in
[0, 1]; `boxes_xyxy` are corners in pixels. So do names of sizes: `size_hw` is (height, width). Names of masks say what
True means.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    import supervision

D = TypeVar("D", bound="Detections")


class Targets(NamedTuple):
    """Ground truth of a batch for detectors and losses, padded with zeros to the largest number of targets."""

    labels: Int[Tensor, "B T"]
    """Training ids, 0..K-1."""
    boxes_cxcywh: Float[Tensor, "B T 4"]
    counts: tuple[int, ...]
    """The number of targets of each image, without padding."""

    @staticmethod
    def of(images: Iterable[tuple[Int[Tensor, " _"], Float[Tensor, "_ 4"]]]) -> "Targets":
        """Combine the labels and boxes of each image."""
        labels, boxes_cxcywh = zip(*images, strict=True)
        return Targets(
            labels=pad_sequence(list(labels), batch_first=True),
            boxes_cxcywh=pad_sequence(list(boxes_cxcywh), batch_first=True),
            counts=tuple(map(len, labels)),
        )

    @staticmethod
    def none(num_images: int) -> "Targets":
        """Return empty targets, for images without objects or without known ones."""
        return Targets(torch.zeros(num_images, 0, dtype=torch.int64), torch.zeros(num_images, 0, 4), (0,) * num_images)


class Prediction(NamedTuple):
    """Class logits and boxes, a pair for every query."""

    logits: Float[Tensor, "*batch Q K"]
    boxes_cxcywh: Float[Tensor, "*batch Q 4"]


class Pairs(NamedTuple):
    """Queries and their matched targets."""

    image: Int[Tensor, " P"]
    query: Int[Tensor, " P"]
    target: Int[Tensor, " P"]
    """Index among the targets of the image."""


class PredictionSet(NamedTuple):
    """A set of predictions that is matched to the targets and trained independently of other sets."""

    name: str
    prediction: Prediction
    weight: float = 1.0
    """The weight of its loss."""
    known: Pairs | None = None
    """The pairs of queries and targets, if they are known (denoising): then nothing is matched, and other queries are
    ignored."""
    class_agnostic: bool = False
    """Learn only that there are objects: all targets then have class 0 (proposals)."""


@runtime_checkable
class Output(Protocol):
    """What a detector predicts in a batch: a named tuple that only its own `found` and its criterion understand."""

    @property
    def final(self) -> Prediction:
        """What is found, before anything is chosen from it; without scores or boxes that it is chosen by."""


class DetectorOutput(NamedTuple):
    """The predictions of a detector whose queries are matched to the targets."""

    sets: tuple[PredictionSet, ...]
    """All sets that are trained; detections come from the last one."""

    @property
    def final(self) -> Prediction:
        """The predictions that detections come from."""
        return self.sets[-1].prediction


class Found(NamedTuple):
    """The detections in one image by training id, best first."""

    boxes_cxcywh: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    labels: Int[Tensor, " N"]
    """Training ids, 0..K-1."""
    source: Int[Tensor, " N"]
    """The query, the point or the region of each detection."""


@dataclass(frozen=True, kw_only=True)
class Detections:
    """The detections in one image, best first."""

    boxes_xyxy: Float[np.ndarray, "N 4"]
    """Absolute pixels of the original image."""
    scores: Float[np.ndarray, " N"]
    labels: Int[np.ndarray, " N"]
    """Training ids, 0..K-1."""
    names: tuple[str, ...]
    """The class name of each detection."""
    sources: Int[np.ndarray, " N"] | None = None
    """The query, the point or the region of each detection; None if it is not known."""

    def __len__(self) -> int:
        return len(self.scores)

    def above(self: D, threshold: float) -> D:
        """Return the detections that score at least `threshold`."""
        return self.where(self.scores >= threshold)

    def where(self: D, is_kept: Bool[np.ndarray, " N"]) -> D:
        """Return some of the detections, in their order."""
        return self.take(np.flatnonzero(is_kept))

    def take(self: D, places: Int[np.ndarray, " N"]) -> D:
        """Return the detections at these places, in this order."""
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[places],
            scores=self.scores[places],
            labels=self.labels[places],
            names=tuple(self.names[place] for place in places),
            sources=None if self.sources is None else self.sources[places],
        )

    def first(self: D, limit: int) -> D:
        """Return the best detections, at most `limit`."""
        return self.take(np.arange(min(limit, len(self))))

    def one_name_each(self: D) -> D:
        """Return the best detection of each query, point or region; of each box where these are not known."""
        if len(self) == 0:
            return self
        origins = self.boxes_xyxy if self.sources is None else self.sources[:, None]
        _, firsts = np.unique(origins, axis=0, return_index=True)
        return self.take(np.sort(firsts))

    def to_supervision(self) -> "supervision.Detections":
        """Return the same detections as `supervision.Detections`, names under `data["class_name"]`."""
        import supervision

        return supervision.Detections(
            xyxy=self.boxes_xyxy,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.names, dtype=str)},
        )

    @staticmethod
    def from_supervision(detections: "supervision.Detections") -> "Detections":
        """Convert `supervision.Detections` with confidence, class_id and class names."""
        return Detections(
            boxes_xyxy=np.asarray(detections.xyxy, dtype=np.float32),
            scores=np.asarray(detections.confidence, dtype=np.float32),
            labels=np.asarray(detections.class_id, dtype=np.int64),
            names=tuple(str(name) for name in detections.data["class_name"]),
        )


NOTHING = Detections(
    boxes_xyxy=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), labels=np.zeros(0, np.int64), names=()
)
"""The detections in an image in which nothing is found."""
