"""The interface of all detectors and of their settings."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from condetr.config import settings
from condetr.data.batch import Batch
from condetr.errors import InputError
from condetr.losses.criterion import Criterion
from condetr.shapes import Found, Output, Targets

Queries = Annotated[int, Field(ge=1, le=10_000, description="The largest number of objects in an image.")]
Width = Annotated[int, Field(ge=1, le=8192)]
Heads = Annotated[int, Field(ge=1, le=128)]
EncoderLayers = Annotated[int, Field(ge=0, le=64)]
DecoderLayers = Annotated[int, Field(ge=1, le=64)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Groups = Annotated[int, Field(ge=1, le=64)]

C = TypeVar("C", bound="DetectorSettings")


class Detector(nn.Module, ABC):
    """Computes predictions from images, and detections from predictions.

    Parameters with rows for classes have the rows of class k after those of class k - 1, and rows without a class ("no
    object") last.
    """

    strides: tuple[int, ...]
    """Pixels per cell of its feature maps, from fine to coarse."""
    most_objects: int
    """The maximum number of objects in an image."""
    score_function: Literal["sigmoid", "softmax"] | None
    """The function from logits to scores in exported models; with `softmax` the last column is "no object". None if
    logits and boxes are not enough to find objects.
    """
    any_object: tuple[str, ...] = ()
    """Parameters of a class head whose first row stands for any object. Their other rows are never trained."""
    looks_at: Literal["cells", "points"] | None = None
    """The places that its decoder's cross-attention weighs: every cell of a feature map, or a few points of several.
    None if there is no such attention.
    """

    @abstractmethod
    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> Output:
        """Predict; `targets` are only used in training, by some detectors."""

    def predict(self, batch: Batch) -> Output:
        """Predict from a batch on the detector's device."""
        output: Output = self(batch.normalised(), batch.is_padding)
        return output

    @abstractmethod
    def found(self, output: Any, *, limit: int) -> list[Found]:  # noqa: ANN401 - what its own forward returns
        """Return the detections of each image, at most `limit`, best first."""

    @abstractmethod
    def keep_classes(self, rows: Sequence[int]) -> None:
        """Restrict the detector to the classes of the given rows of the class head, numbered in their order."""


@settings
class DetectorSettings(ABC):
    """The interface of a detector's settings."""

    @abstractmethod
    def build(self, *, num_classes: int, pretrained: bool = True) -> Detector:
        """Build the detector; without `pretrained` the backbone's weights are neither read nor downloaded."""

    @abstractmethod
    def build_criterion(self) -> Criterion:
        """Build the criterion for training."""

    def for_inference(self) -> "DetectorSettings":
        """Return the settings of the exported detector, which differ only if training used aids."""
        return self


@torch.no_grad()
def without_training_aids(detector: Detector, *, config: C, num_classes: int) -> tuple[Detector, C]:
    """Return the detector to export, without training aids, and its settings.

    Of tensors that are longer in training, the first rows are kept, which belong to the first group of queries.
    """
    plain = cast(C, config.for_inference())
    if plain == config:
        return detector, config
    trained, kept = detector.state_dict(), plain.build(num_classes=num_classes, pretrained=False)
    for name, tensor in kept.state_dict().items():
        tensor.copy_(trained[name][: len(tensor)] if tensor.dim() else trained[name])
    return kept.train(detector.training), plain


def require_divisible(dim: int, *, num_heads: int, name: str = "dim") -> None:
    """Raise InputError if the channels cannot be shared by the heads, or by sine and cosine of x and y."""
    if dim % num_heads or dim % 4:
        raise InputError(
            f"detector.{name} must be a multiple of 4 and of detector.num_heads, got {dim} and {num_heads}"
        )
