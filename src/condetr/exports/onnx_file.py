"""A graph as an ONNX file, run by ONNX Runtime."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from condetr.errors import InputError, first_line
from condetr.exports.graph import Graph, quiet
from condetr.exports.opened import Opened
from condetr.storage.atomic import replaced_file

PACKAGES = "onnx onnxruntime onnxscript"


def require_writer() -> None:
    """Raise InputError if a package is missing."""
    try:
        import onnxruntime  # noqa: F401 - the graph is tried out
        import onnxscript  # noqa: F401 - torch's exporter is written in it
    except ImportError as error:
        raise InputError(f"ONNX needs {error.name}: pip install {PACKAGES}") from None


def write(path: Path, graph: Graph, *, texts: Mapping[str, str]) -> None:
    """Write a graph and its metadata; raises InputError if torch has no ONNX for one of its steps."""
    try:
        with quiet(), _silent():
            program = torch.onnx.export(
                graph.program, input_names=graph.inputs, output_names=graph.outputs, verbose=False
            )
    except torch.onnx.OnnxExporterError as error:
        raise InputError(f"{path.name}: torch cannot write this detector as ONNX ({first_line(error)})") from None
    assert program is not None
    program.model.metadata_props.update(texts)
    for node in program.model.graph:
        node.metadata_props.clear()  # the source location of each step, half a megabyte
    with replaced_file(path) as draft:
        program.save(draft)


def read(path: Path) -> Opened:
    """Load a graph into ONNX Runtime; raises InputError if that is not installed, or the file is damaged."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path} needs {error.name}: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common name
        raise InputError(f"ONNX Runtime cannot read {path} ({first_line(error)}); write it again") from None
    inputs = [value.name for value in session.get_inputs()]

    def run(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, dict(zip(inputs, arrays, strict=True)))
        return outputs

    return Opened(
        library=f"ONNX Runtime {onnxruntime.__version__}",
        texts=session.get_modelmeta().custom_metadata_map,
        inputs=inputs,
        outputs=[value.name for value in session.get_outputs()],
        run=run,
        shapes={
            value.name: [size if isinstance(size, int) else None for size in value.shape]
            for value in (*session.get_inputs(), *session.get_outputs())
        },
    )


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress messages of the exporter's optimiser, which are meant for its developers."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
