"""A detector as an ONNX graph, for runtimes without torch.

The graph takes a batch of any size, of images of any size: bytes in RGB, and the mask of their padding, both as
`collate` makes them. It returns the predictions of the last decoder layer. The file's metadata holds what else a
program must know: the scaling of images and the classes.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor, nn
from torch.export import Dim

import condetr
from condetr.config import dump
from condetr.data.batch import IMAGENET_MEAN, IMAGENET_STD
from condetr.errors import InputError, first_line
from condetr.inference.model_folder import LoadedModel
from condetr.shapes import DetectorOutput, Prediction
from condetr.storage.atomic import replaced_file

INPUTS, OUTPUTS = ("pixels", "is_padding"), Prediction._fields
EXAMPLE_BATCH, EXAMPLE_HW = 3, (128, 160)
"""The shape of the input for tracing; the graph is valid for all batches and sizes."""


def write_onnx(path: Path, model: LoadedModel) -> None:
    """Write a model's graph, with only the rows of its classes; the model must not be used afterwards.

    Raises InputError if a package is missing, if logits and boxes are not enough to find objects, or if torch cannot
    export this detector for every size.
    """
    scores = model.detector.score_function
    if scores is None:
        raise InputError(
            f"{path.name}: what {type(model.detector).__name__} finds takes more than a graph of logits and boxes; it "
            "stays in condetr's own format"
        )
    _require_packages()
    model = model.ready()
    program = _traced(_FromPixels(model.detector).eval(), name=path.name)
    program.model.metadata_props.update(
        {
            "condetr": condetr.__version__,
            "label_map": json.dumps(model.label_map.to_list(), ensure_ascii=False),
            "scores": scores,
            "transform": json.dumps(dump(model.transform)),
            **({} if model.threshold is None else {"threshold": str(model.threshold)}),
        }
    )
    for node in program.model.graph:
        node.metadata_props.clear()  # the source location of each step, half a megabyte
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft:
        program.save(draft)


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
        output: DetectorOutput = self.detector(images, is_padding)
        return output.final.logits, output.final.boxes_cxcywh


def _require_packages() -> None:
    try:
        import onnxruntime  # noqa: F401 - the graph is tried out
        import onnxscript  # noqa: F401 - torch's exporter is written in it
    except ImportError as error:
        raise InputError(f"ONNX needs {error.name}: pip install onnx onnxruntime onnxscript") from None


def _traced(graph: nn.Module, *, name: str) -> torch.onnx.ONNXProgram:
    batch, height, width = Dim("batch"), Dim("height"), Dim("width")
    pixels = torch.zeros(EXAMPLE_BATCH, 3, *EXAMPLE_HW, dtype=torch.uint8)
    is_padding = torch.zeros(EXAMPLE_BATCH, *EXAMPLE_HW, dtype=torch.bool)
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                (pixels, is_padding),
                input_names=INPUTS,
                output_names=OUTPUTS,
                dynamic_shapes=({0: batch, 2: height, 3: width}, {0: batch, 1: height, 2: width}),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(f"{name}: torch cannot export this detector ({_reason(error)})") from None
    assert program is not None
    _, mask = program.model.graph.inputs
    if any(isinstance(size, int) for size in mask.shape or [0]):  # the exporter does not report fixed sizes
        raise InputError(f"{name}: the graph of this detector would only be valid for batches of {mask.shape}")
    return program


def _reason(error: Exception) -> str:
    """Return the first line of the innermost of an exporter's errors."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return first_line(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's messages, which are meant for its developers."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
