"""Values that cross module borders, and the legend of tensor axes.

    B image in a batch    Q query    K class    D channel    M head    S cell of a feature map (H*W)
    T target box          L decoder layer       H W height and width

Boxes say their format: `boxes_cxcywh` are centre, width and height relative to the image's own size, in [0, 1];
`boxes_xyxy` are corners in pixels. Sizes say theirs: `size_hw` is (height, width). Masks say what True means.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    import supervision


class Target(NamedTuple):
    """Ground truth of one image, as the detector and the losses see it."""

    labels: Int[Tensor, " T"]
    """Training ids, 0..K-1."""
    boxes_cxcywh: Float[Tensor, "T 4"]


class Prediction(NamedTuple):
    """One set of class logits and boxes, a pair for every query."""

    logits: Float[Tensor, "B Q K"]
    boxes_cxcywh: Float[Tensor, "B Q 4"]


class Reconstruction(NamedTuple):
    """What all decoder layers restored from noised targets, a row for each, beside the targets."""

    logits: Float[Tensor, "N K"]
    boxes_cxcywh: Float[Tensor, "N 4"]
    labels: Int[Tensor, " N"]
    targets_cxcywh: Float[Tensor, "N 4"]
    groups: int
    """Noised copies of each target; the loss is their mean."""


class DetectorOutput(NamedTuple):
    """Predictions of the last decoder layer, and of the layers before it in order."""

    final: Prediction
    auxiliary: tuple[Prediction, ...]
    """Every other set that is matched and learned from: earlier layers, and further groups of queries."""
    groups: int = 1
    """Groups of queries that each layer predicts with; the loss is their mean."""
    reconstruction: Reconstruction | None = None
    """Only in training, and only from detectors that denoise."""


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
