"""The forms of a detector that this machine can run, and the fastest of them."""

import importlib.util
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from condetr.data.batch import Batch
from condetr.data.transforms import EvalTransformConfig
from condetr.detectors.detector import Detector
from condetr.detectors.exported import ExportedDetector
from condetr.errors import InputError
from condetr.exports.engines import in_engine
from condetr.labels import LabelMap
from condetr.optimize.fast import ForInference, optimize
from condetr.optimize.machine import FastPrecision, has_fast_bf16
from condetr.shapes import Found, Output, Targets
from condetr.storage.remembered import remembered
from condetr.words import counted

Engine = Literal["auto", "torch", "inductor", "onnxruntime", "openvino"]
ENGINES: tuple[Engine, ...] = ("torch", "inductor", "onnxruntime", "openvino")
AUTOMATIC: Mapping[Engine, tuple[str, ...]] = {
    "torch": (), "onnxruntime": ("onnxruntime", "onnxscript"), "openvino": ("openvino",),
}  # fmt: skip
"""The engines that `auto` tries, and the packages that each needs. Inductor takes up to a minute to generate code."""
NUMBER_FORMATS: Mapping[Engine, tuple[FastPrecision, ...]] = {
    "torch": ("fp32", "bf16"), "onnxruntime": ("fp32",), "openvino": ("fp32", "bf16"),
}  # fmt: skip
ROUNDS = 3

Form = Callable[[], Detector]
"""Makes a form of a detector."""


def fast_form(
    detector: Detector,
    *,
    engine: Engine,
    precision: FastPrecision,
    transform: EvalTransformConfig,
    label_map: LabelMap,
) -> Detector:
    """Return a detector in an engine, or as it is if it already is in one.

    With `auto`, the fastest one is chosen at the first batch, and then remembered. Raises InputError for an unknown
    engine, for one that is not installed, and if it cannot run this detector.
    """
    if isinstance(detector, ForInference | ExportedDetector):
        return detector
    if engine not in ("auto", *ENGINES):
        raise InputError(f"there is no engine {engine!r}: choose auto, {', '.join(ENGINES)}")

    def make(engine: Engine, precision: FastPrecision) -> Detector:
        if engine == "onnxruntime" or engine == "openvino":  # noqa: PLR1714 - mypy sees then which are left
            bf16 = precision == "bf16"
            return in_engine(detector, engine, transform=transform, label_map=label_map, bf16=bf16)
        return optimize(detector, precision=precision, compile=engine == "inductor")

    device = next(detector.parameters()).device
    if engine == "openvino" and precision == "auto":
        return make(engine, "bf16" if has_fast_bf16(torch.device("cpu")) else "fp32")
    if engine != "auto":
        return make(engine, precision)
    if device.type != "cpu":
        return make("torch", precision)
    forms = {
        f"{each} in {number_format}": partial(make, each, number_format)
        for each, packages in AUTOMATIC.items()
        if all(map(importlib.util.find_spec, packages))
        for number_format in NUMBER_FORMATS[each]
        if precision in ("auto", number_format)
    }
    return Fastest(detector, forms)


class Fastest(ForInference):
    """The fastest form of a detector on this machine, found by timing all of them on the first batch."""

    def __init__(self, detector: Detector, forms: Mapping[str, Form]) -> None:
        super().__init__(detector)
        self.forms = forms
        self.chosen: Detector | None = None
        size = sum(parameter.numel() for parameter in detector.parameters())
        self.name = f"{type(detector).__name__} with {size:,} parameters"

    def predict(self, batch: Batch) -> Output:
        """Predict from a batch, in the form that is the fastest for the size of the first one."""
        if self.chosen is None:
            self.choose(batch)
        assert self.chosen is not None
        output: Output = self.chosen.predict(batch)
        return output

    def choose(self, batch: Batch) -> str:
        """Make the form that is the fastest for batches of this size; return its name, such as `openvino in bf16`."""
        engines = {name.partition(" ")[0] for name in self.forms} & AUTOMATIC.keys()
        versions = ", ".join(f"{name} {version(name)}" for name in sorted({"torch", *engines}))
        shape, threads = tuple(batch.pixels.shape), counted(torch.get_num_threads(), "thread")
        what = f"the fastest of {', '.join(self.forms)} for {self.name}, images of {shape}, {threads}, {versions}"
        made: dict[str, Detector] = {}
        name = remembered(what, measure=lambda: _fastest(self.forms, batch, made))
        self.chosen = made.get(name) or self.forms[name]()
        return name

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> Output:
        """Raise an error: some forms take bytes, see `predict`."""
        raise InputError("an optimised detector only predicts: take the run or model folder that it was made from")

    def found(self, output: Any, *, limit: int) -> list[Found]:  # noqa: ANN401 - what the chosen form returns
        """Return the detections, as the original detector does."""
        assert self.chosen is not None
        return self.chosen.found(output, limit=limit)


def _fastest(forms: Mapping[str, Form], batch: Batch, made: dict[str, Detector]) -> str:
    """Return the name of the form that takes the least time, leaving out those that cannot run this detector."""
    best, least = "", float("inf")
    for name, make in forms.items():
        try:
            form = make().eval()
            form.predict(batch)
        except InputError:
            continue
        seconds = min(_seconds(form, batch) for _ in range(ROUNDS))
        if seconds < least:
            best, least = name, seconds
            made.clear()
            made[name] = form
    return best


def _seconds(form: Detector, batch: Batch) -> float:
    began = time.perf_counter()
    form.predict(batch)
    return time.perf_counter() - began
