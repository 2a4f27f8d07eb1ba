"""The fast form of a trained detector: the same function for fixed weights, by parts that are faster on a device."""

import copy
import shutil
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from condetr.detectors.detector import Detector
from condetr.errors import InputError, InputWarning, first_line
from condetr.optimize.machine import FastPrecision, is_slow, resolve_dtype
from condetr.optimize.norms import fold_batch_norms
from condetr.optimize.parts import replace_parts
from condetr.shapes import Found, Output, Targets

COMPILER_OPTIONS = {"freezing": True}
"""Weights are constants, packed once."""


@torch.no_grad()
def optimize(detector: Detector, *, precision: FastPrecision = "auto", compile: bool = False) -> "FastDetector":
    """Return the fast form of a detector, on its device. The detector is not changed; later changes have no effect.

    In fp32, its logits are those of the detector to 1e-4. With `compile`, torch.compile generates its code at the first
    image, which takes up to a minute on a CPU. Raises InputError if that needs a C++ compiler and there is none.
    """
    device = next(detector.parameters()).device
    dtype = resolve_dtype(precision, device=device)
    if is_slow(dtype, device=device):
        sentence = "bf16 is no faster than fp32 on this machine: use fp32 or auto"
        warnings.warn(sentence, InputWarning, stacklevel=6)  # who called Predictor.optimize
    if compile and device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "cl"))):
        raise InputError("torch.compile needs a C++ compiler on a CPU, and there is none: install g++, or leave it out")
    fast = copy.deepcopy(detector).eval().requires_grad_(False)
    fold_batch_norms(fast)
    if device.type == "cpu":
        replace_parts(fast)
    return FastDetector(fast.to(memory_format=torch.channels_last), dtype=dtype, compile=compile).eval()


class ForInference(Detector):
    """A form of a detector whose weights are constants."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.strides, self.most_objects = detector.strides, detector.most_objects
        self.score_function, self.any_object = detector.score_function, detector.any_object
        self.looks_at = detector.looks_at

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Raise an error, because weights are constants here."""
        raise InputError("restrict the classes of a detector before it is optimised")


class FastDetector(ForInference):
    """A detector in one number format."""

    def __init__(self, detector: Detector, *, dtype: torch.dtype, compile: bool) -> None:
        super().__init__(detector)
        self.detector = detector
        self.dtype = dtype
        self.is_compiled = compile
        if compile:
            detector.compile(options=dict(COMPILER_OPTIONS))

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> Output:
        """Predict; `targets` are not used. Raises InputError if torch.compile fails."""
        try:
            with nullcontext() if self.dtype == torch.float32 else torch.autocast(images.device.type, dtype=self.dtype):
                output: Output = self.detector(images, is_padding)
        except RuntimeError as error:
            if not self.is_compiled:
                raise
            raise InputError(f"torch.compile cannot run this detector ({first_line(error)}): take torch") from None
        return output

    def found(self, output: Any, *, limit: int) -> list[Found]:  # noqa: ANN401 - what the detector returns
        """Return the detections, as the original detector does."""
        return self.detector.found(output, limit=limit)
