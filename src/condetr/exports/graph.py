"""The graph of a detector, from the bytes of a batch to its predictions, which every format stores."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from condetr.data.batch import IMAGENET_MEAN, IMAGENET_STD
from condetr.detectors.detector import Detector
from condetr.errors import InputError, first_line
from condetr.shapes import Output, Prediction

INPUTS, PREDICTIONS = ("pixels", "is_padding"), Prediction._fields
AXES = ("batch", "height", "width")
EXAMPLE_BATCH, EXAMPLE_HW = 3, (128, 160)
"""The shape of the input for tracing; the graph is valid for all batches and sizes."""


class Graph(NamedTuple):
    """A traced detector and the names of what it takes and returns."""

    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The sizes of each input, None where any will do."""
        given = [node for node in self.program.graph.nodes if node.op == "placeholder"][-len(self.inputs) :]
        return {
            name: tuple(int(size) if str(size).isdecimal() else None for size in node.meta["val"].shape)
            for name, node in zip(self.inputs, given, strict=True)
        }  # a fixed size may be a symbol whose value is known


def trace(detector: Detector, *, name: str) -> Graph:
    """Return the graph of a detector for batches and images of any size; `name` begins the sentence of an error.

    Raises InputError if logits and boxes are not enough to find objects, or if torch cannot export this detector for
    every size.
    """
    if detector.score_function is None:
        raise InputError(
            f"{name}: what {type(detector).__name__} finds takes more than a graph of logits and boxes; it "
            "stays in condetr's own format"
        )
    module = _FromPixels(detector).eval()
    pixels = torch.zeros(EXAMPLE_BATCH, 3, *EXAMPLE_HW, dtype=torch.uint8)
    is_padding = torch.zeros(EXAMPLE_BATCH, *EXAMPLE_HW, dtype=torch.bool)
    shapes = ({axis: Dim.AUTO for axis in (0, 2, 3)}, {axis: Dim.AUTO for axis in (0, 1, 2)})
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(module, (pixels, is_padding), dynamic_shapes=shapes)
    except Exception as error:  # what a detector's code raises, or any part of the exporter
        raise InputError(f"{name}: torch cannot export this detector ({_reason(error)})") from None
    graph = Graph(program, INPUTS, PREDICTIONS)
    _require_any_size(graph, name=name)
    return graph


class _FromPixels(nn.Module):
    """A detector from the pixels of a batch to the predictions of its last layer."""

    mean: Tensor
    std: Tensor

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None])

    def forward(self, pixels: UInt8[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"]) -> tuple[Tensor, Tensor]:
        images = ((pixels / 255 - self.mean) / self.std).masked_fill(is_padding[:, None], 0)
        output: Output = self.detector(images, is_padding)
        return output.final.logits, output.final.boxes_cxcywh


def _require_any_size(graph: Graph, *, name: str) -> None:
    """Raise InputError if torch has tied the graph to the size of the example, which it does not report."""
    sizes = graph.shapes["is_padding"]
    if any(sizes):
        shown = ",".join(axis if size is None else str(size) for axis, size in zip(AXES, sizes, strict=True))
        raise InputError(f"{name}: the graph of this detector would only be valid for batches of [{shown}]")


def _reason(error: Exception) -> str:
    """Return the first line of the innermost of an exporter's errors."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return first_line(error)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporters' warnings, which are meant for their developers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
