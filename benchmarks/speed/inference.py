"""Prediction of one 800 x 1066 image with Conditional DETR-R50: tensors in, tensors out."""

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
from condetr.detectors.detector import Detector
from condetr.optimize.fast import optimize
from condetr.optimize.machine import DTYPES, keep_memory
from tests.parity.peers import detector_config, hf, make_peers, random_model

Run = Callable[[], Any]


THEIRS = tuple(f"transformers sdpa {precision}" for precision in PRECISIONS)
OURS = tuple(f"ours, fast {precision}" for precision in PRECISIONS)
COMPILED = tuple(f"ours, compiled {precision}" for precision in PRECISIONS) if shutil.which("g++") else ()
KEPT = ", memory kept"
HINTS = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's names."""


def measure(*, quick: bool) -> Table:
    """Time transformers, our reference, our fast form, and the exported graph in OpenVINO and ONNX Runtime.

    Our fast form runs in a process that keeps the memory it frees, as `condetr predict` does; transformers runs by
    default settings, and again in that process.
    """
    size_hw = (256, 320) if quick else (800, 1066)
    images, is_padding = _inputs(size_hw)
    with (
        tempfile.TemporaryDirectory() as folder,
        Elsewhere(partial(_with_kept_memory, size_hw)) as elsewhere,
        torch.inference_mode(),
    ):
        peers = make_peers(Path(folder), random_model(detector_config("conditional_detr")))
        runs: dict[str, Run] = {
            **_transformers(Path(folder), images, attentions=("sdpa", "eager")),
            "ours, reference fp32": lambda: peers.ours(images, is_padding).final,
            **{name: partial(elsewhere.run, name) for name in (*(name + KEPT for name in THEIRS), *OURS, *COMPILED)},
        }
        others, notes = _deployed(peers.ours, images, folder=Path(folder))
        runs |= others
        expected = runs["transformers sdpa fp32"]().logits
        differences = {name: _difference(run(), expected) for name, run in runs.items()}
        seconds = alternate(runs, rounds=2 if quick else 7)
        operations = _operations(peers.ours, images, is_padding)
    floors = {precision: 1e3 * operations / matrix_rate(DTYPES[precision]) for precision in PRECISIONS}
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
            "our fast form runs in a process that keeps the memory it frees, as condetr predict does",
            *notes,
        ],
    )


def _inputs(size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    images = torch.randn(1, 3, *size_hw, generator=torch.Generator().manual_seed(0))
    return images, torch.zeros(1, *size_hw, dtype=torch.bool)


def _with_kept_memory(size_hw: tuple[int, int]) -> dict[str, Run]:
    """Return the contenders of the other process; they return their logits."""
    keep_memory()
    images, is_padding = _inputs(size_hw)
    with tempfile.TemporaryDirectory() as folder:
        peers = make_peers(Path(folder), random_model(detector_config("conditional_detr")))
        theirs = _transformers(Path(folder), images, attentions=("sdpa",))
    ours = {
        name: _fast(peers.ours, images, is_padding, precision=name[-4:], compile=name in COMPILED)
        for name in (*OURS, *COMPILED)
    }
    runs = {**{name + KEPT: run for name, run in theirs.items()}, **ours}
    return {name: partial(_logits, run) for name, run in runs.items()}


def _logits(run: Run) -> np.ndarray:
    logits: np.ndarray = run().logits.float().numpy()
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


def _fast(
    detector: Detector,
    images: Tensor,
    is_padding: Tensor,
    *,
    precision: Any,  # noqa: ANN401
    compile: bool,
) -> Run:
    fast = optimize(detector, precision=precision, compile=compile)
    return lambda: fast(images, is_padding).final


def _deployed(detector: nn.Module, images: Tensor, *, folder: Path) -> tuple[dict[str, Run], list[str]]:
    """Return the exported graph in OpenVINO and ONNX Runtime, or say what is missing."""
    try:
        import onnxruntime
        import openvino
    except ImportError as error:
        return {}, [f"OpenVINO and ONNX Runtime were not measured ({error}): pip install '.[bench]'"]
    path = folder / "detector.onnx"
    torch.onnx.export(_Unpadded(detector).eval(), (images,), path, dynamo=True, external_data=False, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    array = images.numpy()
    runs: dict[str, Run] = {
        "ONNX Runtime fp32": lambda: session.run(None, {session.get_inputs()[0].name: array})[0],
    }
    for name in PRECISIONS:
        settings = {"INFERENCE_PRECISION_HINT": HINTS[name], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(path, "CPU", settings)
        runs[f"OpenVINO {name}"] = partial(_first_output, compiled, array)
    return runs, []


def _first_output(compiled: Callable[[Any], Any], array: Any) -> Any:  # noqa: ANN401 - OpenVINO's types
    return compiled(array)[0]


class _Unpadded(nn.Module):
    """A detector as a function of the images alone."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        is_padding = torch.zeros(len(images), *images.shape[2:], dtype=torch.bool)
        logits, boxes_cxcywh = self.detector(images, is_padding).final
        return logits, boxes_cxcywh


def _operations(detector: nn.Module, images: Tensor, is_padding: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        detector(images, is_padding)
    return int(counter.get_total_flops())


def _difference(output: Any, expected: Tensor) -> float:  # noqa: ANN401 - six libraries
    logits = output.logits if hasattr(output, "logits") else output
    return float((torch.as_tensor(logits).float() - expected).abs().max())


def _headline(seconds: dict[str, float]) -> dict[str, float]:
    ratios: dict[str, float] = {}
    for name, theirs in zip(OURS, THEIRS, strict=True):
        precision = name[-4:]
        peers = {
            "transformers fp32": THEIRS[0],
            f"transformers {precision}": theirs,
            f"transformers {precision}, memory kept": theirs + KEPT,
            f"OpenVINO {precision}": f"OpenVINO {precision}",
        }
        ratios |= {
            f"{precision} over {peer}": seconds[row] / seconds[name] for peer, row in peers.items() if row in seconds
        }
    return ratios
