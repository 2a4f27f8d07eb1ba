"""What everything else asks of a detector, and the sizes that one can have."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from condetr.config import settings
from condetr.errors import InputError
from condetr.losses.criterion import Criterion
from condetr.shapes import Found, Output, Targets

Queries = Annotated[int, Field(ge=1, le=10_000)]
Width = Annotated[int, Field(ge=1, le=8192)]
Heads = Annotated[int, Field(ge=1, le=128)]
EncoderLayers = Annotated[int, Field(ge=0, le=64)]
DecoderLayers = Annotated[int, Field(ge=1, le=64)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Groups = Annotated[int, Field(ge=1, le=64)]

C = TypeVar("C", bound="DetectorSettings")


class Detector(nn.Module, ABC):
    """From images to predictions to what is found.

    Parameters that belong to classes have the rows of class k behind those of class k - 1, and rows that belong to no
    class ("no object") last.
    """

    strides: tuple[int, ...]
    """Pixels per cell of its feature maps, from fine to coarse."""
    most_objects: int
    """How many objects it can find in an image."""
    score_function: Literal["sigmoid", "softmax"] | None
    """How programs outside turn its logits into scores; with `softmax` the last column is "no object". None: they
    cannot, as more than logits and boxes decides on what is found."""

    @abstractmethod
    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> Output:
        """Predict; only some trainings read `targets`."""

    @abstractmethod
    def found(self, output: Any, *, limit: int) -> list[Found]:  # noqa: ANN401 - what its own forward returns
        """Return what a prediction says is in each image, at most `limit` objects, best first."""

    @abstractmethod
    def keep_classes(self, rows: Sequence[int]) -> None:
        """Find no other classes than those of the given rows of the class head, numbered in their order."""


@settings
class DetectorSettings(ABC):
    """What the settings of every detector can do."""

    @abstractmethod
    def build(self, *, num_classes: int, pretrained: bool = True) -> Detector:
        """Build the detector; without `pretrained` the backbone's weights are neither read nor downloaded."""

    @abstractmethod
    def build_criterion(self) -> Criterion:
        """Build the losses that it learns from."""

    def for_inference(self) -> "DetectorSettings":
        """Return the settings of the detector that is kept after training: themselves, unless training has aids."""
        return self


@torch.no_grad()
def without_training_aids(detector: Detector, *, config: C, num_classes: int) -> tuple[Detector, C]:
    """Return the detector that is kept after training, and its settings: itself where there is nothing to take off.

    Of tensors that are longer in training, the first rows are kept: the first group's queries lead.
    """
    plain = cast(C, config.for_inference())
    if plain == config:
        return detector, config
    trained, kept = detector.state_dict(), plain.build(num_classes=num_classes, pretrained=False)
    for name, tensor in kept.state_dict().items():
        tensor.copy_(trained[name][: len(tensor)] if tensor.dim() else trained[name])
    return kept.train(detector.training), plain


def require_divisible(dim: int, *, num_heads: int) -> None:
    """Raise InputError if the channels cannot be shared by the heads, or by sine and cosine of x and y."""
    if dim % num_heads or dim % 4:
        raise InputError(f"detector.dim must be a multiple of 4 and of detector.num_heads, got {dim} and {num_heads}")
