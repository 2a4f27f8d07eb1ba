"""What 8 bits save: Conditional DETR-R50 on one 800 x 1066 image, beside the forms in fp32 and bf16.

Weights and images are random, which changes the AP, not the time. The graph in 8 bits is the one of `condetr convert
--int8`, its decoder and heads in float.
"""

import copy
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.speed.inference import fast_engine, one_image
from benchmarks.speed.report import Table
from benchmarks.speed.timing import PRECISIONS, alternate
from condetr.data.transforms import PaperTransformConfig
from condetr.detectors.detector import Detector
from condetr.exports.files import read_graph, write_graph
from condetr.inference.fastest import Engine
from condetr.labels import Category, LabelMap
from condetr.optimize.machine import keep_memory
from tests.parity.peers import detector_config, random_model

LIBRARIES: dict[str, Engine] = {"torch": "torch", "OpenVINO": "openvino"}
BASE = "OpenVINO fp32"


def measure(*, quick: bool) -> Table:
    """Time torch and OpenVINO in fp32 and bf16, and OpenVINO in 8 bits, whose float part may be in bf16, too."""
    keep_memory()
    batch = one_image((256, 320) if quick else (800, 1066))
    detector = random_model(detector_config("conditional_detr")).detector.eval()
    forms: dict[str, Detector] = {
        f"{library} {precision}": fast_engine(detector, engine, precision)
        for library, engine in LIBRARIES.items()
        for precision in PRECISIONS
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.xml"
        write_graph(
            path,
            copy.deepcopy(detector),
            transform=PaperTransformConfig(),
            label_map=LabelMap(tuple(Category(label, f"class {label}") for label in range(91))),
            measured_on=lambda transform: [batch],
        )
        for precision in PRECISIONS:
            forms[f"OpenVINO int8, decoder {precision}"] = read_graph(path, bf16=precision == "bf16").detector
    runs: dict[str, Callable[[], object]] = {name: partial(form.predict, batch) for name, form in forms.items()}
    with torch.inference_mode():
        seconds = alternate(runs, rounds=2 if quick else 9)
    return Table(
        name="eight_bits",
        title=f"Prediction in 8 bits, Conditional DETR-R50, one {' x '.join(map(str, batch.sizes_hw[0]))} image",
        columns=("", "ms", f"times as fast as {BASE}"),
        rows=[(name, 1e3 * taken, seconds[BASE] / taken) for name, taken in seconds.items()],
        headline={f"{name} over {BASE}": seconds[BASE] / taken for name, taken in seconds.items() if "int8" in name},
        notes=["the process keeps the memory that it frees, as condetr predict does"],
    )
