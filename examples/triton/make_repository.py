"""Write a model repository of Triton for a graph: `python make_repository.py detector.onnx models`.

The graph, which `condetr convert RUN detector.onnx` wrote, is copied to models/detector/1/model.onnx. Its own inputs,
outputs and metadata make config.pbtxt; clients find the classes there, under `parameters`. Then, on a machine with
Triton: `tritonserver --model-repository=models`.
"""

import json
import shutil
import sys
from pathlib import Path

import onnxruntime

TYPES = {"float": "FP32", "uint8": "UINT8", "bool": "BOOL", "int64": "INT64"}


def main(graph: Path, repository: Path) -> None:
    """Copy the graph and describe it; sizes are whole (max_batch_size 0), and -1 where any will do."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    lines = [f"name: {json.dumps(graph.stem)}", 'backend: "onnxruntime"', "max_batch_size: 0"]
    for kind, values in (("input", session.get_inputs()), ("output", session.get_outputs())):
        for value in values:
            data_type = TYPES[value.type.removeprefix("tensor(").removesuffix(")")]
            dims = [size if isinstance(size, int) else -1 for size in value.shape]
            lines.append(f'{kind} {{ name: "{value.name}" data_type: TYPE_{data_type} dims: {dims} }}')
    for key, text in sorted(session.get_modelmeta().custom_metadata_map.items()):
        quoted = json.dumps(text, ensure_ascii=False)
        lines.append(f'parameters {{ key: "{key}" value {{ string_value: {quoted} }} }}')
    version = repository / graph.stem / "1"
    version.mkdir(parents=True)
    shutil.copyfile(graph, version / "model.onnx")
    (version.parent / "config.pbtxt").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:  # ONNX Runtime's exceptions have no common name
        sys.exit(f"make_repository: {error}")
