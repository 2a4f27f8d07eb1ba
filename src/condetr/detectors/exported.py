"""A detector that another program runs: a graph from the bytes of a batch to predictions."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from condetr.boxes import xyxy_to_cxcywh
from condetr.data.batch import Batch
from condetr.detectors.detector import Detector
from condetr.detectors.scores import RANKINGS
from condetr.errors import InputError
from condetr.shapes import DetectorOutput, Found, Output, Prediction, PredictionSet, Targets

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""Runs a graph: from its inputs to its outputs, in their order."""


class ExportedOutput(NamedTuple):
    """The detections of each image, which were chosen inside the graph."""

    scores: Float[Tensor, "B N"]
    labels: Int[Tensor, "B N"]
    boxes_cxcywh: Float[Tensor, "B N 4"]

    @property
    def final(self) -> Prediction:
        """Where the detections are; nothing was kept of what they were chosen from."""
        return Prediction(self.scores[..., None], self.boxes_cxcywh)


class ExportedDetector(Detector):
    """A graph of a detector, which stays in the program that runs it."""

    strides = ()

    def __init__(
        self, run: Run, *, score_function: str, size_hw: tuple[int, int] | None, finds: bool, takes_mask: bool
    ) -> None:
        super().__init__()
        if score_function not in RANKINGS:
            raise InputError(f"scores are one of {', '.join(RANKINGS)}, got {score_function}")
        self.run = run
        self.score_function = score_function
        self.rank = RANKINGS[score_function]
        self.size_hw = size_hw
        self.finds = finds
        self.takes_mask = takes_mask

    def num_logits(self, num_classes: int) -> int:
        """Return how many logits a query has: one for each class, and with softmax one for "no object"."""
        return num_classes + (self.score_function == "softmax")

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> Output:
        """Raise an error: a graph takes bytes, see `predict`."""
        raise InputError("an exported graph only predicts: take the run or model folder that it was made from")

    def predict(self, batch: Batch) -> DetectorOutput | ExportedOutput:
        """Run the graph on a batch."""
        every = graph_inputs(
            batch,
            size_hw=self.size_hw,
            takes_mask=self.takes_mask,
            has_one_image=self.finds or self.size_hw is not None,
        )
        parts = [[torch.from_numpy(output) for output in self.run(inputs)] for inputs in every]
        outputs = [torch.cat(each) for each in zip(*parts, strict=True)]
        if not self.finds:
            return DetectorOutput((PredictionSet("exported", Prediction(*outputs)),))
        scores, labels, boxes_xyxy = outputs
        sizes_wh = torch.tensor(batch.sizes_hw).flip(1)
        return ExportedOutput(scores, labels, xyxy_to_cxcywh(boxes_xyxy / sizes_wh.repeat(1, 2)[:, None]))

    def found(self, output: Any, *, limit: int) -> list[Found]:  # noqa: ANN401 - see `predict`
        """Return the detections, as the original detector does; a graph that finds them is asked for no more."""
        if not self.finds:
            return self.rank(output.final, limit)
        return [
            # The queries are not known here, but those of one query have one box.
            Found(boxes_cxcywh, scores, labels, source=torch.unique(boxes_cxcywh, dim=0, return_inverse=True)[1])
            for scores, labels, boxes_cxcywh in zip(*(each[:, :limit] for each in output), strict=True)
        ]

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Raise an error, because the graph is fixed."""
        raise InputError("restrict the classes of a detector before it is exported")


def graph_inputs(
    batch: Batch, *, size_hw: tuple[int, int] | None, takes_mask: bool, has_one_image: bool
) -> list[list[np.ndarray]]:
    """Return what a graph takes for a batch: all of it, or each image by itself, without padding or up to its size."""
    if takes_mask and not has_one_image:
        return [[batch.pixels.numpy(), batch.is_padding.numpy()]]
    images = [_alone(batch, index, size_hw=size_hw or batch.sizes_hw[index]) for index in range(len(batch.pixels))]
    if takes_mask:
        return [[pixels.numpy(), is_padding.numpy()] for pixels, is_padding in images]
    return [[pixels.float().numpy()] for pixels, _ in images]


def _alone(
    batch: Batch, index: int, *, size_hw: tuple[int, int]
) -> tuple[UInt8[Tensor, "1 3 H W"], Bool[Tensor, "1 H W"]]:
    """Return an image of a batch on a ground of the given size."""
    rows, columns = batch.sizes_hw[index]
    pixels = torch.zeros(1, 3, *size_hw, dtype=torch.uint8)
    is_padding = torch.ones(1, *size_hw, dtype=torch.bool)
    pixels[..., :rows, :columns] = batch.pixels[index, :, :rows, :columns]
    is_padding[..., :rows, :columns] = False
    return pixels, is_padding
