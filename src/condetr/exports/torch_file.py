"""A graph as a file of torch.export (.pt2), run by torch without the detector's code."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from condetr.errors import InputError
from condetr.exports.graph import Graph, quiet
from condetr.exports.opened import Opened
from condetr.storage.atomic import replaced_file

ABOUT = "condetr.json"
"""The extra file in the archive with the metadata."""


def require_writer() -> None:
    """Do nothing: torch is always there."""


def write(path: Path, graph: Graph, *, texts: Mapping[str, str]) -> None:
    """Write a graph and its metadata."""
    about = json.dumps({**texts, "inputs": graph.inputs, "outputs": graph.outputs})
    with replaced_file(path) as draft, quiet():
        torch.export.save(graph.program, draft, extra_files={ABOUT: about})


def refuse(path: Path) -> Opened:
    """Raise InputError: torch runs Python code that such a file holds."""
    raise InputError(
        f"{path} can hold code, which torch.export.load would run, so that condetr does not take it as weights; give "
        "the run or model folder that it was made from, or its .onnx or .xml file"
    )


def read_own(path: Path) -> Opened:
    """Load a graph from a file that this process has just written."""
    extra = {ABOUT: ""}
    with quiet():
        module = torch.export.load(path, extra_files=extra).module()
    about = json.loads(extra[ABOUT])

    def run(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        outputs: Sequence[torch.Tensor] = module(*map(torch.from_numpy, arrays))
        return [output.detach().numpy() for output in outputs]

    return Opened(f"torch.export {torch.__version__.partition('+')[0]}", about, about["inputs"], about["outputs"], run)
