"""The graph of a detector, from the bytes of a batch to its predictions, which every format stores."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.utils import parametrize

from condetr.boxes import cxcywh_to_xyxy
from condetr.data.batch import IMAGENET_MEAN, IMAGENET_STD
from condetr.detectors.detector import Detector
from condetr.errors import InputError, first_line
from condetr.layers.pyramid import image_sizes
from condetr.shapes import Output, Prediction

INPUTS = ("pixels", "is_padding")
PREDICTIONS, DETECTIONS = Prediction._fields, ("scores", "labels", "boxes_xyxy")
MOST_DETECTIONS = 100
AXES = ("batch", "height", "width")
EXAMPLE_BATCH, EXAMPLE_HW = 3, (128, 160)
"""The shape of the input for tracing, where the graph is valid for others, too."""


class Graph(NamedTuple):
    """A traced detector and the names of what it takes and returns."""

    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_half: bool
    """True if the large weights are stored in 16 bits."""

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The sizes of each input, None where any will do."""
        given = [node for node in self.program.graph.nodes if node.op == "placeholder"][-len(self.inputs) :]
        return {
            name: tuple(int(size) if str(size).isdecimal() else None for size in node.meta["val"].shape)
            for name, node in zip(self.inputs, given, strict=True)
        }  # a fixed size may be a symbol whose value is known

    @property
    def parts(self) -> dict[str, str]:
        """The part of the detector, such as `detector.encoder.layers.0`, that each step belongs to, by its name."""
        stacks = {node.name: node.meta.get("nn_module_stack") for node in self.program.graph.nodes}
        return {name: str([*stack.values()][-1][0]) for name, stack in stacks.items() if stack}


class Options(NamedTuple):
    """How a graph differs from one that takes padded batches of any size and returns what all queries predict."""

    size_hw: tuple[int, int] | None = None
    """The only height and width that it takes, in batches of one image."""
    half: bool = False
    """Store the large weights in 16 bits; computations stay in 32."""
    detections: bool = False
    """Return the best detections of one image instead of all predictions."""
    has_mask: bool = True
    """Take padding. Without, the pixels are floats, from 0 to 255 too."""

    @property
    def has_one_image(self) -> bool:
        """True if batches have one image."""
        return self.size_hw is not None or self.detections

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what the graph takes."""
        return INPUTS if self.has_mask else INPUTS[:1]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what the graph returns."""
        return DETECTIONS if self.detections else PREDICTIONS


PLAIN = Options()


def trace(detector: Detector, *, options: Options = PLAIN, name: str) -> Graph:
    """Return the graph of a detector; `name` begins the sentence of an error.

    Raises InputError if logits and boxes are not enough to find objects, or if torch cannot export this detector for
    every size that the options allow.
    """
    if detector.score_function is None:
        raise InputError(
            f"{name}: what {type(detector).__name__} finds takes more than a graph of logits and boxes; it "
            "stays in condetr's own format"
        )
    whole: nn.Module = _Best(detector) if options.detections else _Predictions(detector)
    module = whole if options.has_mask else _Unpadded(whole)
    batch, (height, width) = 1 if options.has_one_image else EXAMPLE_BATCH, options.size_hw or EXAMPLE_HW
    pixels = torch.zeros(batch, 3, height, width, dtype=torch.uint8 if options.has_mask else torch.float32)
    is_padding = torch.zeros(batch, height, width, dtype=torch.bool)
    free = [axis for axis, is_fixed in zip(AXES, _fixed(options), strict=True) if not is_fixed]
    shapes = tuple({axes.index(axis): Dim.AUTO for axis in free} for axes in (("batch", "RGB", *AXES[1:]), AXES))
    count = len(options.inputs)
    try:
        with quiet(), torch.no_grad(), _halved(detector) if options.half else nullcontext():
            program = torch.export.export(module.eval(), (pixels, is_padding)[:count], dynamic_shapes=shapes[:count])
    except Exception as error:  # what a detector's code raises, or any part of the exporter
        raise InputError(f"{name}: torch cannot export this detector ({_reason(error)})") from None
    graph = Graph(program, options.inputs, options.outputs, is_half=options.half)
    _require_free(graph, free, name=name)
    return graph


def _fixed(options: Options) -> tuple[bool, bool, bool]:
    return options.has_one_image, options.size_hw is not None, options.size_hw is not None


class _Pixels(nn.Module):
    """The scaling of bytes to what detectors take."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None])

    def forward(self, pixels: Shaped[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B 3 H W"]:
        return ((pixels / 255 - self.mean) / self.std).masked_fill(is_padding[:, None], 0)


class _Predictions(nn.Module):
    """A detector from the pixels of a batch to the predictions of its last layer."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.scaled = _Pixels()
        self.detector = detector

    def forward(self, pixels: Shaped[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"]) -> tuple[Tensor, ...]:
        output: Output = self.detector(self.scaled(pixels, is_padding), is_padding)
        return output.final.logits, output.final.boxes_cxcywh


class _Best(nn.Module):
    """A detector from the pixels of an image to its best detections, in pixels of the image."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.scaled = _Pixels()
        self.detector = detector

    def forward(self, pixels: Shaped[Tensor, "1 3 H W"], is_padding: Bool[Tensor, "1 H W"]) -> tuple[Tensor, ...]:
        output: Output = self.detector(self.scaled(pixels, is_padding), is_padding)
        (found,) = self.detector.found(output, limit=MOST_DETECTIONS)
        boxes_xyxy = cxcywh_to_xyxy(found.boxes_cxcywh) * image_sizes(is_padding).repeat(1, 2)
        return found.scores[None], found.labels[None], boxes_xyxy[None]


class _Unpadded(nn.Module):
    """A graph of images without padding, whose pixels are floats."""

    def __init__(self, padded: nn.Module) -> None:
        super().__init__()
        self.padded = padded

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.padded(pixels, torch.zeros_like(pixels[:, 0], dtype=torch.bool))
        return outputs


class _Widened(nn.Module):
    """A weight that is stored in 16 bits and used in 32."""

    def forward(self, stored: Tensor) -> Tensor:
        return stored.float()

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:
        return (weight.half(),)


@contextmanager
def _halved(detector: nn.Module) -> Iterator[None]:
    """Store matrices and convolutions in 16 bits for the length of a block; the weights stay rounded afterwards."""
    weights = [
        (module, name)
        for module in detector.modules()
        for name, weight in module.named_parameters(recurse=False)
        if weight.dim() > 1
    ]
    for module, name in weights:
        parametrize.register_parametrization(module, name, _Widened(), unsafe=True)
    try:
        yield
    finally:
        for module, name in weights:
            parametrize.remove_parametrizations(module, name)


def _require_free(graph: Graph, free: Sequence[str], *, name: str) -> None:
    """Raise InputError if torch has tied the graph to the size of the example, which it does not report."""
    batch, _, *size_hw = graph.shapes["pixels"]
    sizes = dict(zip(AXES, (batch, *size_hw), strict=True))
    if any(sizes[axis] is not None for axis in free):
        shown = ",".join(str(size or axis) for axis, size in sizes.items())
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
