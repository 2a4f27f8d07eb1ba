"""Values that cross module borders, and the legend of tensor axes.

    B image in a batch    Q query    K class    D channel    M head    S cell of a feature map (H*W)
    R region    T target box          L decoder layer       H W height and width

Boxes say their format: `boxes_cxcywh` are centre, width and height relative to the image's own size, in [0, 1];
`boxes_xyxy` are corners in pixels. Sizes say theirs: `size_hw` is (height, width). Masks say what True means.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    import supervision


class Targets(NamedTuple):
    """Ground truth of a batch, as detectors and losses see it; padded with zeros to the image that has most."""

    labels: Int[Tensor, "B T"]
    """Training ids, 0..K-1."""
    boxes_cxcywh: Float[Tensor, "B T 4"]
    counts: tuple[int, ...]
    """Of each image, how many of the T are its own."""

    @staticmethod
    def of(images: Iterable[tuple[Int[Tensor, " _"], Float[Tensor, "_ 4"]]]) -> "Targets":
        """Bring labels and boxes of each image together."""
        labels, boxes_cxcywh = zip(*images, strict=True)
        return Targets(
            labels=pad_sequence(list(labels), batch_first=True),
            boxes_cxcywh=pad_sequence(list(boxes_cxcywh), batch_first=True),
            counts=tuple(map(len, labels)),
        )

    @staticmethod
    def none(num_images: int) -> "Targets":
        """Return the targets of images on which nothing is to be found, or known."""
        return Targets(torch.zeros(num_images, 0, dtype=torch.int64), torch.zeros(num_images, 0, 4), (0,) * num_images)


class Prediction(NamedTuple):
    """Class logits and boxes, a pair for every query."""

    logits: Float[Tensor, "*batch Q K"]
    boxes_cxcywh: Float[Tensor, "*batch Q 4"]


class Pairs(NamedTuple):
    """Queries and the targets that they stand for."""

    image: Int[Tensor, " P"]
    query: Int[Tensor, " P"]
    target: Int[Tensor, " P"]
    """Place among the targets of the image."""


class PredictionSet(NamedTuple):
    """Predictions that are matched to the targets, and learned from, among themselves."""

    name: str
    prediction: Prediction
    weight: float = 1.0
    """What its loss is multiplied with."""
    known: Pairs | None = None
    """Which queries stand for which targets, where that is known: nothing is matched then, and the other queries do
    not count (denoising)."""


@runtime_checkable
class Output(Protocol):
    """What a detector predicts in a batch: a named tuple that only its own `found` and its criterion understand."""

    @property
    def final(self) -> Prediction:
        """What is found, before anything is chosen from it; without scores or boxes that it is chosen by."""


class DetectorOutput(NamedTuple):
    """What a detector predicts whose queries are matched to the targets."""

    sets: tuple[PredictionSet, ...]
    """All that is learned from; the last one is what is found."""

    @property
    def final(self) -> Prediction:
        """What is found."""
        return self.sets[-1].prediction


class Found(NamedTuple):
    """What a detector found in one image, best first."""

    boxes_cxcywh: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    labels: Int[Tensor, " N"]
    """Training ids, 0..K-1."""
    source: Int[Tensor, " N"]
    """The query, the point or the region that each is from."""


@dataclass(frozen=True, kw_only=True)
class Detections:
    """What was found in one image, best first."""

    boxes_xyxy: Float[np.ndarray, "N 4"]
    """Absolute pixels of the original image."""
    scores: Float[np.ndarray, " N"]
    labels: Int[np.ndarray, " N"]
    """Training ids, 0..K-1."""
    names: tuple[str, ...]
    """The class name of each detection."""

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float) -> "Detections":
        """Return the detections that score at least `threshold`."""
        return self.where(self.scores >= threshold)

    def where(self, is_kept: Bool[np.ndarray, " N"]) -> "Detections":
        """Return some of the detections, in their order."""
        keep = np.flatnonzero(is_kept)
        return Detections(
            boxes_xyxy=self.boxes_xyxy[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            names=tuple(self.names[i] for i in keep),
        )

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
        """Return `supervision.Detections` (with confidence, class_id and class names) as ours."""
        return Detections(
            boxes_xyxy=np.asarray(detections.xyxy, dtype=np.float32),
            scores=np.asarray(detections.confidence, dtype=np.float32),
            labels=np.asarray(detections.class_id, dtype=np.int64),
            names=tuple(str(name) for name in detections.data["class_name"]),
        )
