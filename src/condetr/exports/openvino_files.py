"""A graph as OpenVINO's two files: the steps (.xml), and beside it the weights (.bin)."""

import hashlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from condetr.errors import InputError, first_line
from condetr.exports.graph import Graph, quiet
from condetr.exports.int8 import quantised
from condetr.exports.opened import Opened
from condetr.storage.atomic import replaced_file

WEIGHTS_SUFFIX = ".bin"
ABOUT = "condetr_graph"
"""Where in the file the metadata are."""
CHECKSUM, BLANK = "weights_sha256", "0" * 64
"""Among the metadata: the SHA-256 of the weights' file, as OpenVINO takes the weights of any graph that has as many."""


def require_writer() -> None:
    """Raise InputError if OpenVINO is not installed."""
    _load_openvino(what="a file of OpenVINO")


def write(
    path: Path, graph: Graph, *, texts: Mapping[str, str], measured_on: Iterable[list[np.ndarray]] | None = None
) -> None:
    """Write a graph and its metadata, in 8 bits if there is something to measure them on.

    Raises InputError if OpenVINO lacks one of its steps.
    """
    model = _converted(graph, name=path.name)
    if measured_on is not None:
        model = quantised(model, graph, measured_on, name=path.name)
    _write_model(path, model, texts=texts, half=graph.is_half)


def _converted(graph: Graph, *, name: str) -> Any:  # noqa: ANN401 - OpenVINO has no types
    """Return OpenVINO's model of a graph."""
    openvino = _load_openvino(what=name)
    try:
        with quiet():
            model = openvino.convert_model(graph.program)
    except Exception as error:  # its exceptions have no common name
        cure = "" if all(graph.shapes["pixels"]) else "; one size may be possible, give --size HxW"
        raise InputError(f"{name}: OpenVINO cannot convert this detector ({_reason(error)}){cure}") from None
    for port, tensor in zip((*model.inputs, *model.outputs), (*graph.inputs, *graph.outputs), strict=True):
        port.get_tensor().set_names({tensor})
    model.reshape({name: [-1 if size is None else size for size in graph.shapes[name]] for name in graph.inputs})
    return model


def _write_model(path: Path, model: Any, *, texts: Mapping[str, str], half: bool) -> None:  # noqa: ANN401
    """Write both files of OpenVINO's model, or none of them; `half` stores its weights in 16 bits."""
    openvino = _load_openvino(what=str(path))
    for key, text in {**texts, CHECKSUM: BLANK}.items():
        model.set_rt_info(text, [ABOUT, key])
    beside = path.with_suffix(WEIGHTS_SUFFIX)
    with replaced_file(path) as steps, replaced_file(beside) as weights:
        openvino.save_model(model, steps, compress_to_fp16=half)
        steps.with_suffix(WEIGHTS_SUFFIX).replace(weights)
        steps.write_bytes(steps.read_bytes().replace(BLANK.encode(), _checksum(weights).encode()))
        path.unlink(missing_ok=True)  # if the process dies here, nobody reads old steps with new weights


def read(path: Path, *, bf16: bool = False) -> Opened:
    """Load a graph into OpenVINO, which computes in fp32 or in bf16.

    Raises InputError if OpenVINO is not installed, or a file is missing or damaged.
    """
    openvino = _load_openvino(what=str(path))
    if b"<net " not in path.read_bytes()[:1000]:  # OpenVINO would look for other programs' models in it
        raise InputError(f"{path} is no graph of OpenVINO; give the .xml that condetr convert wrote")
    beside = path.with_suffix(WEIGHTS_SUFFIX)
    if not beside.is_file():
        raise InputError(f"{beside} does not exist, which holds the weights of {path}; copy both files")
    precision = "bf16" if bf16 else "f32"
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # otherwise the processes of one machine share its first core
    }
    try:
        core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # the file may be replaced or removed while the graph is in use
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", settings)
    except Exception as error:  # its exceptions have no common name
        raise InputError(f"OpenVINO cannot read {path} ({_reason(error)}); write it again") from None
    texts = _texts(model)
    if texts.get(CHECKSUM) not in (None, _checksum(beside)):
        raise InputError(f"{beside} holds the weights of another graph than {path}; copy both files again")

    def run(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        results = compiled(list(arrays))
        return [np.array(results[port]) for port in compiled.outputs]  # a copy: it uses its memory again

    return Opened(
        library=f"OpenVINO {openvino.__version__.partition('-')[0]}",
        texts=texts,
        inputs=[_name(port) for port in model.inputs],
        outputs=[_name(port) for port in model.outputs],
        run=run,
        shapes={_name(port): _shape(port) for port in (*model.inputs, *model.outputs)},
    )


def _load_openvino(*, what: str) -> Any:  # noqa: ANN401
    """Return the library, which would report its use to its makers; raises InputError if it is not installed."""
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))
    try:
        import openvino
    except ImportError as error:
        raise InputError(f"{what} needs {error.name}: pip install openvino") from None
    return openvino


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _texts(model: Any) -> dict[str, str]:  # noqa: ANN401
    told = model.get_rt_info([ABOUT]).value if model.has_rt_info([ABOUT]) else None
    return {key: str(each) for key, each in told.items()} if isinstance(told, dict) else {}


def _name(port: Any) -> str:  # noqa: ANN401
    return min(port.get_names(), default="a tensor without a name")


def _shape(port: Any) -> list[int | None]:  # noqa: ANN401
    shape = port.partial_shape
    return [size.get_length() if size.is_static else None for size in shape] if shape.rank.is_static else []


def _reason(error: Exception) -> str:
    """Return the last line of OpenVINO's error; those before it are places in its own code."""
    last = str(error).strip().rpartition("\n")[2] or first_line(error)
    return re.sub(r" at 0x\w+", "", last.removeprefix("-- "))
