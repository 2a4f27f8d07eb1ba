"""A detector that another program runs: a graph from the bytes of a batch to predictions."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from condetr.data.batch import Batch
from condetr.detectors.detector import Detector
from condetr.detectors.scores import RANKINGS
from condetr.errors import InputError
from condetr.shapes import DetectorOutput, Found, Prediction, PredictionSet, Targets

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""Runs a graph: from its inputs to its outputs, in their order."""


class ExportedDetector(Detector):
    """A graph of a detector, which stays in the program that runs it."""

    strides = ()

    def __init__(self, run: Run, *, score_function: str) -> None:
        super().__init__()
        if score_function not in RANKINGS:
            raise InputError(f"scores are one of {', '.join(RANKINGS)}, got {score_function}")
        self.run = run
        self.score_function = score_function
        self.rank = RANKINGS[score_function]

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> DetectorOutput:
        """Raise an error: a graph takes bytes, see `predict`."""
        raise InputError("an exported graph only predicts: take the run or model folder that it was made from")

    def predict(self, batch: Batch) -> DetectorOutput:
        """Run the graph on a batch."""
        outputs = self.run([batch.pixels.numpy(), batch.is_padding.numpy()])
        final = Prediction(*(torch.from_numpy(each) for each in outputs))
        return DetectorOutput((PredictionSet("exported", final),))

    def found(self, output: DetectorOutput, *, limit: int) -> list[Found]:
        """Return the detections, as the original detector does."""
        return self.rank(output.final, limit)

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Raise an error, because the graph is fixed."""
        raise InputError("restrict the classes of a detector before it is exported")
