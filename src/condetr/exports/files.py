"""Write and read detectors as graphs, in the format that a file's name says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from condetr.data.batch import Batch
from condetr.data.transforms import EvalTransformConfig, LightTransformConfig, StretchConfig
from condetr.detectors.detector import Detector
from condetr.detectors.exported import ExportedDetector, graph_inputs
from condetr.errors import InputError, RunError, first_line
from condetr.exports import onnx_file, openvino_files, torch_file
from condetr.exports.about import About
from condetr.exports.graph import PLAIN, Options, trace
from condetr.exports.int8 import require_quantiser
from condetr.exports.opened import Opened
from condetr.labels import LabelMap


class Format(NamedTuple):
    """Functions for the files of one suffix."""

    require_writer: Callable[[], None]
    write: Callable[..., None]
    read: Callable[[Path], Opened]
    """Read any file, which may hold anything."""
    read_own: Callable[[Path], Opened]
    """Read a file that this process has just written."""


FORMATS: Mapping[str, Format] = {
    ".onnx": Format(onnx_file.require_writer, onnx_file.write, onnx_file.read, onnx_file.read),
    ".xml": Format(openvino_files.require_writer, openvino_files.write, openvino_files.read, openvino_files.read),
    ".pt2": Format(torch_file.require_writer, torch_file.write, torch_file.refuse, torch_file.read_own),
}
"""The formats of graphs, by suffix."""


KINDS = [
    Options(detections=detections, has_mask=has_mask) for detections in (False, True) for has_mask in (True, False)
]
"""The graphs that differ in the names of what they take and return."""


class Exported(NamedTuple):
    """A detector that was read from a file, and what describes it."""

    detector: ExportedDetector
    about: About
    library: str
    """The library that runs it, with its version."""


def is_graph(path: Path) -> bool:
    """Tell by its suffix whether a file holds a graph."""
    return path.suffix.lower() in FORMATS


def write_graph(
    path: Path,
    detector: Detector,
    *,
    transform: EvalTransformConfig,
    label_map: LabelMap,
    threshold: float | None = None,
    options: Options = PLAIN,
    measured_on: Callable[[EvalTransformConfig], Iterable[Batch]] | None = None,
) -> None:
    """Write a detector as a graph that has only the rows of its classes; 16 bits round its weights, too.

    `threshold` is the model's own, for those who use the graph. A graph of one size takes images that are fitted into
    it, or stretched to it if it takes no padding. With `measured_on`, which returns images as a transform prepares
    them, an .xml file computes in 8 bits. Raises InputError if a package is missing or the detector has no such graph;
    nothing is written then.
    """
    form = FORMATS[path.suffix.lower()]
    form.require_writer()
    if measured_on is not None:
        require_quantiser()
    graph = trace(detector, options=options, name=path.name)
    assert detector.score_function is not None
    if options.size_hw is not None:
        fit = LightTransformConfig(size_hw=options.size_hw)
        transform = fit if options.has_mask else StretchConfig(size_hw=options.size_hw)
    texts = About(label_map, transform, detector.score_function, options.size_hw, threshold).to_texts()
    path.parent.mkdir(parents=True, exist_ok=True)
    if measured_on is None:
        form.write(path, graph, texts=texts)
        return
    images = (
        inputs
        for batch in measured_on(transform)
        for inputs in graph_inputs(
            batch, size_hw=options.size_hw, takes_mask=options.has_mask, has_one_image=options.has_one_image
        )
    )
    openvino_files.write(path, graph, texts=texts, measured_on=images)


def read_graph(path: Path, *, is_own: bool = False, bf16: bool = False) -> Exported:
    """Read a graph that condetr wrote, `is_own` if this process has just done so; OpenVINO can compute in bf16.

    Raises InputError for any other graph, and without the library that runs it.
    """
    form = FORMATS[path.suffix.lower()]
    read = partial(openvino_files.read, bf16=True) if bf16 else form.read_own if is_own else form.read
    opened = read(path)
    about = About.of_texts(opened.texts, path=path)
    names = tuple(opened.inputs), tuple(opened.outputs)
    options = next((each for each in KINDS if (each.inputs, each.outputs) == names), None)
    if options is None:
        given = f"takes {', '.join(opened.inputs)} and returns {', '.join(opened.outputs)}"
        raise InputError(f"{path} is no graph that condetr wrote: it {given}; write it again")
    try:
        detector = ExportedDetector(
            partial(_run, opened, num_classes=len(about.label_map), path=path),
            score_function=about.score_function,
            size_hw=about.size_hw,
            finds=options.detections,
            takes_mask=options.has_mask,
        )
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}; write it again") from None
    _require_true(about, opened.shapes, path=path, columns=detector.num_logits(len(about.label_map)))
    return Exported(detector, about, opened.library)


def _require_true(about: About, shapes: Mapping[str, Sequence[int | None]], *, path: Path, columns: int) -> None:
    """Raise InputError if the metadata do not fit the sizes in the graph, so that somebody has changed them."""
    *_, found = shapes.get("logits") or (None,)
    if found not in (None, columns):
        names = "label_map and scores"
        raise InputError(f"{path} has {found} columns of logits, but {names} speak of {columns}; write it again")
    fitted_hw = None if about.transform.kind == "paper" else about.transform.size_hw
    told = {"size_hw": about.size_hw} | ({} if about.size_hw is None else {"transform": fitted_hw})
    taken_hw = tuple(shapes.get("pixels") or ())[2:]
    for name, size_hw in told.items():
        if taken_hw not in ((), size_hw or (None, None)):
            raise InputError(
                f"{path} takes images of {_said(taken_hw)}, but {name} says {_said(size_hw)}; write it again"
            )


def _said(size_hw: Sequence[int | None] | None) -> str:
    return "any size" if size_hw is None or None in size_hw else " x ".join(map(str, size_hw))


def _run(opened: Opened, arrays: Sequence[np.ndarray], *, num_classes: int, path: Path) -> Sequence[np.ndarray]:
    """Run a graph; raises RunError if its library does not, InputError if it finds a class without a name."""
    try:
        outputs = opened.run(arrays)
    except Exception as error:  # each library has its own
        raise RunError(f"{opened.library} does not run {path}, do not use it: {first_line(error)}") from None
    labels = dict(zip(opened.outputs, outputs, strict=True)).get("labels")
    if labels is not None and labels.size and labels.max() >= num_classes:
        raise InputError(
            f"{path} finds class {labels.max()}, but its label_map has {num_classes} classes; write it again"
        )
    return outputs
