"""The model repository for Triton describes the graph that is in it. Triton itself is not run."""

import json
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from condetr.labels import LabelMap
from tests.examples.conftest import EXAMPLES, LABELS, MakeCase

SCRIPT = EXAMPLES / "triton" / "make_repository.py"
NAMES = {"BOOL": "bool", "UINT8": "uint8", "INT64": "int64", "FP32": "float"}


def test_the_description_is_that_of_the_graph(make_case: MakeCase, tmp_path: Path) -> None:
    graph, _ = make_case("own_size")
    subprocess.run([sys.executable, SCRIPT, graph, tmp_path / "models"], check=True)

    folder = tmp_path / "models" / "detector"
    lines = (folder / "config.pbtxt").read_text(encoding="utf-8").splitlines()
    assert lines[:8] == [
        'name: "detector"',
        'backend: "onnxruntime"',
        "max_batch_size: 0",
        'input { name: "pixels" data_type: TYPE_UINT8 dims: [1, 3, -1, -1] }',
        'input { name: "is_padding" data_type: TYPE_BOOL dims: [1, -1, -1] }',
        'output { name: "scores" data_type: TYPE_FP32 dims: [1, 10] }',
        'output { name: "labels" data_type: TYPE_INT64 dims: [1, 10] }',
        'output { name: "boxes_xyxy" data_type: TYPE_FP32 dims: [1, 10, 4] }',
    ]
    assert (folder / "1" / "model.onnx").read_bytes() == graph.read_bytes()


@pytest.mark.parametrize("name", ["own_size", "padded", "stretched"])
def test_triton_can_parse_the_description(name: str, make_case: MakeCase, tmp_path: Path) -> None:
    schema = pytest.importorskip("tritonclient.grpc").model_config_pb2
    text_format = pytest.importorskip("google.protobuf.text_format")
    graph, _ = make_case(name)
    subprocess.run([sys.executable, SCRIPT, graph, tmp_path / "models"], check=True)

    config = text_format.Parse((tmp_path / "models/detector/config.pbtxt").read_text("utf-8"), schema.ModelConfig())

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for told, values in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [each.name for each in told] == [value.name for value in values]
        for each, value in zip(told, values, strict=True):
            data_type = schema.DataType.Name(each.data_type).removeprefix("TYPE_")
            assert f"tensor({NAMES[data_type]})" == value.type
            assert list(each.dims) == [size if isinstance(size, int) else -1 for size in value.shape]
    label_map = LabelMap.from_list(json.loads(config.parameters["label_map"].string_value))
    assert label_map == LABELS


def test_a_model_is_not_overwritten_and_a_wrong_file_is_named(make_case: MakeCase, tmp_path: Path) -> None:
    graph, photo = make_case("own_size")
    subprocess.run([sys.executable, SCRIPT, graph, tmp_path / "models"], check=True)

    for file, sentence in ((graph, "File exists"), (photo, "photo.png failed"), (tmp_path / "x.onnx", "doesn't exist")):
        ended = subprocess.run(
            [sys.executable, SCRIPT, file, tmp_path / "models"], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 1
        assert ended.stderr.startswith("make_repository: ")
        assert sentence in ended.stderr
