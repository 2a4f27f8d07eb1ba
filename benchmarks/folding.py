"""What libraries fold into constants: `python -m benchmarks.folding`.

Some steps of Conditional DETR do not depend on the image: what is made of the queries, and the positions of cells where
no image is padded. For each form of graph, this counts the steps of these parts that a library still computes for each
image, and how many the graph has. A small detector is enough, because folding depends on the steps alone.
"""

import logging
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
import onnxruntime
import openvino
import torch
from rich.console import Console

from benchmarks.markdown import table_lines
from condetr.backbones.resnet import SmallResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.exports.graph import PLAIN, Graph, Options, quiet, trace

DETECTOR = ConditionalDetrConfig(
    backbone=SmallResNetConfig(widths=(8, 8), blocks=(1,)), num_queries=20, dim=32, num_heads=4, feedforward_dim=32,
    encoder_layers=1, decoder_layers=2,
)  # fmt: skip
FORMS = {
    "without options": PLAIN,
    "`--detections`": Options(detections=True),
    "`--size`": Options(size_hw=(96, 128)),
    "`--size --without-mask`": Options(size_hw=(96, 128), has_mask=False),
}
PARTS = {
    "reference points": r"reference_points\..*",
    "their embedding": r"decoder",
    "first self-attention": r"decoder\.layers\.0\.self_attention(\..*)?",
    "positions of cells": r"features",
    "keys of positions": r"decoder\.layers\.\d+\.cross_attention\.spatial_key",
}
"""Each with the module of the detector that its steps are in."""
STEPS = re.compile(r"(linear|scaled_dot_product_attention|sin|cos)(_\d+)?")
"""The steps that are counted, by torch's names; the others are cheap, and libraries merge or split them."""
FUSED = re.compile(r"/|_token_")
"""What libraries put behind the name of a step that they changed."""


def main() -> None:
    """Write each form of graph, let the libraries compile it, and show what is left."""
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    columns = ("graph", "library", *PARTS)
    Console().print("\n".join(table_lines(columns, rows())), highlight=False, markup=False, soft_wrap=True)


def rows() -> Iterable[tuple[str, ...]]:
    """Return a row for each form of graph and each library: the steps left of those in the graph, for each part."""
    torch.manual_seed(0)
    detector = DETECTOR.build(num_classes=2).eval()
    for form, options in FORMS.items():
        graph = trace(detector, options=options, name=form)
        parts = {name: part.rpartition("detector.")[2] for name, part in graph.parts.items() if STEPS.fullmatch(name)}
        whole = _count(parts.values())
        for library, left_in in (("ONNX Runtime", _onnxruntime), ("OpenVINO", _openvino)):
            left = _count(parts[name] for name in left_in(graph) & parts.keys())
            yield form, library, *(f"{left[part]} of {whole[part]}" for part in PARTS)


def _count(modules: Iterable[str]) -> Mapping[str, int]:
    """Return how many of the steps, given by their modules, are in each part."""
    each = list(modules)
    return {part: sum(re.fullmatch(module, one) is not None for one in each) for part, module in PARTS.items()}


def _onnxruntime(graph: Graph) -> set[str]:
    """Return torch's names of the steps that ONNX Runtime computes."""
    with quiet():
        program = torch.onnx.export(graph.program, verbose=False)
    assert program is not None
    torchs = {step.name: step.metadata_props.get("pkg.torch.onnx.fx_node", "") for step in program.model.graph}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # the optimised graph is meant for this machine alone, of which it warns
    with tempfile.TemporaryDirectory() as folder:
        program.save(Path(folder) / "graph.onnx")
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(Path(folder) / "graph.onnx", options, providers=["CPUExecutionProvider"])
        steps = onnx.load(options.optimized_model_filepath).graph.node
    left = [torchs.get(FUSED.split(step.name)[0], "") for step in steps]
    return {match[1] for match in (re.match(r"%(\w+)", one) for one in left) if match}


def _openvino(graph: Graph) -> set[str]:
    """Return torch's names of the steps that OpenVINO computes."""
    with quiet():
        model = openvino.convert_model(graph.program)
    model.reshape(
        {
            place: [-1 if size is None else size for size in graph.shapes[name]]
            for place, name in enumerate(graph.inputs)
        }
    )
    steps = openvino.Core().compile_model(model, "CPU").get_runtime_model().get_ordered_ops()
    told = [step.get_rt_info() for step in steps]
    names = [one["originalLayersNames"].astype(str) for one in told if one["layerType"].astype(str) != "Const"]
    return {FUSED.split(name)[0] for each in names for name in each.split(",")}


if __name__ == "__main__":
    main()
