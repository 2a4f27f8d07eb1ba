"""Programs that run a detector in the place of torch."""

import copy
import tempfile
from pathlib import Path
from typing import Literal

from condetr.data.transforms import EvalTransformConfig
from condetr.detectors.detector import Detector
from condetr.detectors.exported import ExportedDetector
from condetr.errors import InputError
from condetr.exports.files import read_graph, write_graph
from condetr.labels import LabelMap

Engine = Literal["onnxruntime", "openvino"]
SUFFIXES: dict[Engine, str] = {"onnxruntime": ".onnx", "openvino": ".xml"}


def in_engine(
    detector: Detector,
    engine: Engine,
    *,
    transform: EvalTransformConfig,
    label_map: LabelMap,
    bf16: bool = False,
) -> ExportedDetector:
    """Return a detector that the engine runs on the CPU; later changes of the given one have no effect.

    OpenVINO computes in fp32 or in bf16, ONNX Runtime in fp32. Raises InputError if the engine is not installed or does
    not compute in bf16, or if the detector has no graph.
    """
    if bf16 and engine == "onnxruntime":
        raise InputError("onnxruntime computes in fp32: leave the precision out")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{type(detector).__name__}{SUFFIXES[engine]}"
        write_graph(path, copy.deepcopy(detector).cpu(), transform=transform, label_map=label_map)
        return read_graph(path, is_own=True, bf16=bf16).detector
