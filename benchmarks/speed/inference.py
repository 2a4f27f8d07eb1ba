"""Prediction of one 800 x 1066 image with Conditional DETR-R50: tensors in, tensors out."""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.elsewhere import Elsewhere
from benchmarks.speed.report import Cell, Table
from benchmarks.speed.timing import PRECISIONS, alternate, matrix_rate
from condetr.data.batch import Batch, collate_images
from condetr.data.transforms import PaperTransformConfig
from condetr.detectors.detector import Detector
from condetr.inference.fastest import Engine, fast_form
from condetr.labels import Category, LabelMap
from condetr.optimize.machine import DTYPES, FastPrecision, keep_memory
from tests.parity.peers import detector_config, hf, make_peers, random_model

Run = Callable[[], Any]
THEIRS = tuple(f"transformers sdpa {precision}" for precision in PRECISIONS)
ENGINES: tuple[Engine, ...] = ("torch", *(("inductor",) if shutil.which("g++") else ()), *(
    engine for engine in ("onnxruntime", "openvino") if importlib.util.find_spec(engine)
))  # fmt: skip
OURS: dict[str, tuple[Engine, FastPrecision]] = {
    f"ours, {engine} {precision}": (engine, precision)
    for engine in ENGINES
    for precision in PRECISIONS
    if not (engine == "onnxruntime" and precision == "bf16")
}
KEPT = ", memory kept"


def measure(*, quick: bool) -> Table:
    """Time transformers, our reference, and our engines.

    Our engines run in a process that keeps the memory it frees, as `condetr predict` does; transformers runs by default
    settings, and again in that process.
    """
    size_hw = (256, 320) if quick else (800, 1066)
    batch = one_image(size_hw)
    images, is_padding = batch.normalised(), batch.is_padding
    with (
        tempfile.TemporaryDirectory() as folder,
        Elsewhere(partial(_with_kept_memory, size_hw)) as elsewhere,
        torch.inference_mode(),
    ):
        peers = make_peers(Path(folder), random_model(detector_config("conditional_detr")))
        runs: dict[str, Run] = {
            **_transformers(Path(folder), images, attentions=("sdpa", "eager")),
            "ours, reference fp32": lambda: peers.ours(images, is_padding).final,
            **{name: partial(elsewhere.run, name) for name in (*(name + KEPT for name in THEIRS), *OURS)},
        }
        expected = runs["transformers sdpa fp32"]().logits
        differences = {name: _difference(run(), expected) for name, run in runs.items()}
        seconds = alternate(runs, rounds=2 if quick else 7)
        operations = _operations(peers.ours, images, is_padding)
    floors: dict[str, float] = {
        precision: 1e3 * operations / matrix_rate(DTYPES[precision]) for precision in PRECISIONS
    }
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            1e3 * value,
            seconds["transformers sdpa fp32"] / value,
            floors[name.removesuffix(KEPT)[-4:]],
            differences[name],
        )
        for name, value in seconds.items()
    ]
    return Table(
        name="inference",
        title=f"Prediction, Conditional DETR-R50, one {size_hw[0]} x {size_hw[1]} image",
        columns=("", "ms", "times as fast as transformers fp32", "floor ms", "largest difference of logits"),
        rows=rows,
        headline=_headline(seconds),
        notes=[
            f"floor: {operations / 1e9:.0f} GFLOP at the measured rate of a 3x3 convolution",
            "our engines run in a process that keeps the memory it frees, as condetr predict does",
            f"engines that are not installed were not measured: here were {', '.join(ENGINES)}",
        ],
    )


def one_image(size_hw: tuple[int, int]) -> Batch:
    """Return a batch of one image of noise."""
    pixels = torch.randint(256, (3, *size_hw), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return collate_images([pixels], original_sizes_hw=[size_hw])


def _with_kept_memory(size_hw: tuple[int, int]) -> dict[str, Run]:
    """Return the contenders of the other process; they return their logits."""
    keep_memory()
    batch = one_image(size_hw)
    with tempfile.TemporaryDirectory() as folder:
        peers = make_peers(Path(folder), random_model(detector_config("conditional_detr")))
        theirs = _transformers(Path(folder), batch.normalised(), attentions=("sdpa",))
    ours: dict[str, Run] = {name: partial(fast_engine(peers.ours, *each).predict, batch) for name, each in OURS.items()}
    runs = {**{name + KEPT: run for name, run in theirs.items()}, **ours}
    return {name: partial(_logits, run) for name, run in runs.items()}


def _logits(run: Run) -> np.ndarray:
    output = run()
    prediction: Any = getattr(output, "final", output)
    logits: np.ndarray = prediction.logits.float().numpy()
    return logits


def _transformers(folder: Path, images: Tensor, *, attentions: Sequence[str]) -> dict[str, Run]:
    """Return transformers' model in each number format; its default attention is `sdpa`."""
    mask = torch.ones(1, *images.shape[2:], dtype=torch.long)
    runs: dict[str, Run] = {}
    for attention in attentions:
        for name in PRECISIONS:
            dtype = DTYPES[name]
            model = hf.AutoModelForObjectDetection.from_pretrained(folder, attn_implementation=attention, dtype=dtype)
            inputs = {"pixel_values": images.to(dtype), "pixel_mask": mask}
            runs[f"transformers {attention} {name}"] = partial(model.eval(), **inputs)
    return runs


def fast_engine(detector: Detector, engine: Engine, precision: FastPrecision) -> Detector:
    """Return the form of a detector that an engine runs."""
    names = LabelMap(tuple(Category(label, f"class {label}") for label in range(91)))
    transform = PaperTransformConfig()
    return fast_form(detector, engine=engine, precision=precision, transform=transform, label_map=names)


def _operations(detector: nn.Module, images: Tensor, is_padding: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        detector(images, is_padding)
    return int(counter.get_total_flops())


def _difference(output: Any, expected: Tensor) -> float:  # noqa: ANN401 - six libraries
    logits = output.logits if hasattr(output, "logits") else output
    return float((torch.as_tensor(logits).float() - expected).abs().max())


def _headline(seconds: dict[str, float]) -> dict[str, float]:
    """Return how many times as fast the best of our engines and torch alone are, in each number format."""
    ratios: dict[str, float] = {}
    for precision in PRECISIONS:
        ours = {each: seconds[name] for name, each in OURS.items() if each[1] == precision}
        best = min(ours, key=lambda each: ours[each])
        for name, taken in ((f"{best[0]} (the best)", ours[best]), ("torch", ours["torch", precision])):
            for peer in dict.fromkeys(("fp32", precision, f"{precision}{KEPT}")):
                ratios[f"{name} {precision} over transformers {peer}"] = seconds[f"transformers sdpa {peer}"] / taken
    return ratios
