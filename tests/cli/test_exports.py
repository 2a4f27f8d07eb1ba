"""Graphs as weights of every verb, and how they are written."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.detr import DetrConfig
from condetr.inference.model_folder import LoadedModel, write_model
from condetr.labels import Category, LabelMap
from tests.cli.conftest import Command
from tests.tiny import TINY

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
SUFFIXES = [".onnx", pytest.param(".xml", marks=needs_openvino)]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A model folder of a tiny detector of the classes of the data."""
    torch.manual_seed(0)
    config = DetrConfig(**TINY)
    detector = config.build(num_classes=2)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    labels = LabelMap((Category(3, "bolt"), Category(7, "nut")))
    write_model(tmp_path / "weights", LoadedModel(detector, config, LightTransformConfig(size_hw=(48, 64)), labels))
    return tmp_path / "weights"


def told(text: str) -> dict[str, Any]:
    """Return the JSON that a verb printed."""
    return json.loads(text)  # type: ignore[no-any-return]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_graph_takes_the_place_of_its_weights(
    suffix: str, weights: Path, data: Path, tmp_path: Path, condetr: Command
) -> None:
    graph = tmp_path / f"detector{suffix}"
    ended = condetr("convert", weights, graph, "--json")
    assert (ended.code, told(ended.out)["boxes"] < 1e-5) == (0, True), ended.err

    image = data / "val" / "5.png"
    (scores, found), (theirs, others) = (
        (
            told(condetr("evaluate", source, "--data", data, "--json").out),
            told(condetr("predict", source, image, "--out", tmp_path / f"{source.name}-out", "--json").out),
        )
        for source in (weights, graph)
    )

    assert scores["AP"] == pytest.approx(theirs["AP"], abs=1e-6)
    assert found["categories"] == others["categories"]
    assert [each["score"] for each in found["annotations"]] == pytest.approx(
        [each["score"] for each in others["annotations"]], abs=1e-4
    )


def test_what_needs_the_weights_refuses_a_graph(weights: Path, data: Path, tmp_path: Path, condetr: Command) -> None:
    graph = tmp_path / "detector.onnx"
    condetr("convert", weights, graph)

    for arguments in (
        ("explain", graph, data / "val" / "5.png", "--out", tmp_path / "why"),
        ("convert", graph, tmp_path / "copy"),
        ("train", "conditional_detr_tiny", "--data", data, "--init-from", graph, "--out", tmp_path / "run"),
    ):
        ended = condetr(*arguments)
        assert ended.code == 2
        assert ended.err.splitlines()[-1].startswith(f"condetr: {graph} is a graph, which predict and evaluate take")
    assert not (tmp_path / "why").exists()


def other_graph(path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [value], [result]), opset_imports=[onnx.helper.make_opsetid("", 18)]
    )
    model.ir_version = 9
    onnx.save(model, path)


def test_a_graph_of_something_else_is_refused(weights: Path, data: Path, tmp_path: Path, condetr: Command) -> None:
    path = tmp_path / "x.onnx"
    for write, sentence in (
        (other_graph, "no graph that condetr wrote: it does not say label_map, scores, transform"),
        (lambda path: path.write_bytes(b"hello"), "ONNX Runtime cannot read"),
        (lambda path: path.write_bytes(b""), "ONNX Runtime cannot read"),
    ):
        write(path)
        ended = condetr("evaluate", path, "--data", data, "--json")
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
        assert sentence in ended.err

    condetr("convert", weights, path, "--overwrite")
    path.write_bytes(path.read_bytes()[:-1000])
    ended = condetr("evaluate", path, "--data", data, "--json")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "ONNX Runtime cannot read" in ended.err


def edit(path: Path, **texts: str) -> None:
    """Change the metadata of a graph, as somebody might by hand."""
    model = onnx.load(path)
    for each in model.metadata_props:
        each.value = texts.get(each.key, each.value)
    onnx.save(model, path)


ONE_CLASS = '[{"training_id": 0, "dataset_id": 3, "name": "bolt"}]'


EDITS: dict[tuple[str, ...], list[tuple[dict[str, str], str]]] = {
    (): [
        ({"label_map": ONE_CLASS}, "has 3 columns of logits, but label_map and scores speak of 2"),
        ({"label_map": "[]"}, "has 3 columns of logits, but label_map and scores speak of 1"),
        ({"label_map": '{"bolt": 3}'}, "holds no usable label_map"),
        ({"label_map": "bolt, nut"}, "holds metadata that cannot be read"),
        ({"scores": "sigmoid"}, "has 3 columns of logits, but label_map and scores speak of 2"),
        ({"scores": "percent"}, "scores are one of sigmoid, softmax, got percent"),
        ({"size_hw": "[40, 56]"}, "takes images of any size, but size_hw says 40 x 56"),
        ({"transform": "[]"}, "transform has settings of its own below it, got []"),
        ({"transform": '{"kind": "light", "size_hw": [0, 56]}'}, "greater than or equal to 1"),
        ({"threshold": "NaN"}, "threshold"),
    ],
    ("--size", "40x56"): [
        ({"size_hw": "null"}, "takes images of 40 x 56, but size_hw says any size"),
        ({"size_hw": "[40]"}, "size_hw"),
        (
            {"transform": '{"kind": "light", "size_hw": [48, 56]}'},
            "takes images of 40 x 56, but transform says 48 x 56",
        ),
    ],
    ("--detections",): [({"label_map": "[]"}, "but its label_map has 0 classes; write it again")],
}
"""Changes of the metadata of a graph with some options, and what is said of them."""


@pytest.mark.parametrize("options", EDITS, ids=str)
def test_edited_metadata_are_refused(
    options: tuple[str, ...], weights: Path, data: Path, tmp_path: Path, condetr: Command
) -> None:
    path = tmp_path / "x.onnx"
    assert condetr("convert", weights, path, *options).code == 0
    written = path.read_bytes()

    for texts, sentence in EDITS[options]:
        path.write_bytes(written)
        edit(path, **texts)
        ended = condetr("predict", path, data / "val" / "5.png", "--out", tmp_path / "out", "--json")
        assert (ended.code, ended.err.strip().count("\n")) == (2, 0), ended.err
        assert sentence in ended.err
        assert "x.onnx" in ended.err


@needs_openvino
def test_a_label_map_of_other_length_is_refused_in_openvinos_file(
    weights: Path, data: Path, tmp_path: Path, condetr: Command
) -> None:
    path = tmp_path / "x.xml"
    assert condetr("convert", weights, path).code == 0
    text = path.read_text(encoding="utf-8")
    cut = re.sub(r", \{(&quot;|')?[^{]*nut[^}]*\}", "", text)
    assert cut != text
    path.write_text(cut, encoding="utf-8")

    ended = condetr("evaluate", path, "--data", data, "--json")

    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "has 3 columns of logits, but label_map and scores speak of 2" in ended.err


@needs_openvino
def test_openvinos_files_belong_together(weights: Path, data: Path, tmp_path: Path, condetr: Command) -> None:
    path, beside = tmp_path / "x.xml", tmp_path / "x.bin"
    beside.write_bytes(b"precious")
    ended = condetr("convert", weights, path)
    assert (ended.code, "x.bin exists already" in ended.err) == (2, True)
    assert sorted(tmp_path.glob("x.*")) == [beside]

    beside.unlink()
    assert condetr("convert", weights, path).code == 0
    steps, numbers = path.read_bytes(), beside.read_bytes()
    for change, sentence in (
        (lambda: beside.write_bytes(numbers[:100]), "OpenVINO cannot read"),
        (lambda: beside.unlink(), "x.bin does not exist, which holds the weights"),
        (lambda: path.write_bytes(steps[:-1000]), "OpenVINO cannot read"),
        (lambda: path.write_text("<annotation><object/></annotation>"), "is no graph of OpenVINO"),
    ):
        path.write_bytes(steps)
        beside.write_bytes(numbers)
        change()
        ended = condetr("evaluate", path, "--data", data, "--json")
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
        assert sentence in ended.err


@needs_openvino
def test_the_weights_of_another_training_are_refused(
    weights: Path, data: Path, tmp_path: Path, condetr: Command
) -> None:
    assert condetr("convert", weights, tmp_path / "old.xml").code == 0
    file = weights / "model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(file).items()}, file)
    assert condetr("convert", weights, tmp_path / "new.xml").code == 0
    (tmp_path / "old.bin").replace(tmp_path / "new.bin")

    ended = condetr("evaluate", tmp_path / "new.xml", "--data", data, "--json")

    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "new.bin holds the weights of another graph than" in ended.err


@needs_openvino
def test_openvinos_files_are_both_written_or_none(
    weights: Path, tmp_path: Path, condetr: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(model: object, path: Path, **_: object) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openvino.save_model", fails)

    ended = condetr("convert", weights, tmp_path / "x.xml")

    assert (ended.code, "No space left on device" in ended.err) == (1, True)
    assert list(tmp_path.iterdir()) == [weights]


def test_a_missing_library_is_a_sentence_with_its_cure(
    weights: Path, data: Path, tmp_path: Path, condetr: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    (tmp_path / "y.xml").write_text('<net name="x">')

    for arguments in (
        ("convert", weights, tmp_path / "x.xml"),
        ("evaluate", tmp_path / "y.xml", "--data", data, "--json"),
    ):
        ended = condetr(*arguments)
        assert (ended.code, ended.err.count("\n")) == (2, 1)
        assert ended.err.endswith("needs openvino: pip install openvino\n")
    assert not (tmp_path / "x.xml").exists()


def test_torchs_file_is_written_but_not_taken(weights: Path, data: Path, tmp_path: Path, condetr: Command) -> None:
    ended = condetr("convert", weights, tmp_path / "x.pt2", "--json")
    assert (ended.code, told(ended.out)["logits"] < 1e-5) == (0, True), ended.err

    ended = condetr("evaluate", tmp_path / "x.pt2", "--data", data, "--json")

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "can hold code" in ended.err


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--size", "40x56"), 1e-5),
        (("--fp16",), 0.1),
        (("--detections",), 1e-5),
        (("--without-mask",), 1e-5),
        (("--size", "40x56", "--without-mask", "--detections", "--fp16"), 0.1),
    ],
    ids=str,
)
def test_a_graph_of_another_form_is_compared_and_taken(
    options: tuple[str, ...], difference: float, weights: Path, data: Path, tmp_path: Path, condetr: Command
) -> None:
    ended = condetr("convert", weights, tmp_path / "x.onnx", *options, "--json")

    assert ended.code == 0, ended.err
    assert max(told(ended.out)["logits"], told(ended.out)["boxes"]) < difference
    assert (told(ended.out)["logits"] > 1e-5) == ("--fp16" in options)
    found = condetr("predict", tmp_path / "x.onnx", data / "val", "--out", tmp_path / "out", "--json")
    assert found.code == 0, found.err
    assert len(told(found.out)["annotations"]) == 2 * TINY["num_queries"]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "x.onnx",
            ("--size", "640"),
            "--size is a height and a width in pixels such as 640x960, at most 8192, got 640",
        ),
        ("x.onnx", ("--size", "9999x64"), "got 9999x64"),
        (f"{300 * 'x'}.onnx", (), "File name too long; name another one"),
        ("weights/config.json/x.onnx", (), "config.json is a file, but the results need a folder"),
        ("x.onnx", ("--size", "0x64"), "got 0x64"),
        ("x.onnx", ("--size", "-1x64"), "got -1x64"),
        ("x.pth", ("--fp16",), "are for graphs, not for"),
        ("x", ("--detections",), "are for graphs, not for"),
        ("x", ("--to", "transformers", "--without-mask"), "are for graphs, not for"),
    ],
)
def test_options_that_cannot_be_are_refused(
    name: str, options: tuple[str, ...], sentence: str, weights: Path, tmp_path: Path, condetr: Command
) -> None:
    ended = condetr("convert", weights, tmp_path / name, *options)

    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert sentence in ended.err
    assert list(tmp_path.iterdir()) == [weights]


needs_nncf = pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="nncf is not installed")


@needs_nncf
@pytest.mark.filterwarnings("ignore")  # those of nncf
def test_eight_bits_end_with_what_they_cost(weights: Path, data: Path, tmp_path: Path, condetr: Command) -> None:
    ended = condetr("convert", weights, tmp_path / "x.xml", "--int8", data, "--json")

    assert ended.code in (0, 1), ended.err
    found = told(ended.out)
    assert (ended.code == 1) == (found["source"]["AP"] - found["int8"]["AP"] > 0.01)
    measured = told(condetr("evaluate", tmp_path / "x.xml", "--data", data, "--json").out)
    assert measured["AP"] == pytest.approx(found["int8"]["AP"])
    assert 'type="FakeQuantize"' in (tmp_path / "x.xml").read_text()


@needs_nncf
@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("x.onnx", (), "--int8 is for OpenVINO's graphs, which end in .xml"),
        ("x", (), "--int8 is for OpenVINO's graphs, which end in .xml"),
        ("x.xml", ("--fp16",), "give --int8 or --fp16, not both"),
    ],
)
def test_eight_bits_that_cannot_be_are_refused(
    name: str, options: tuple[str, ...], sentence: str, weights: Path, data: Path, tmp_path: Path, condetr: Command
) -> None:
    ended = condetr("convert", weights, tmp_path / name, "--int8", data, *options)

    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert sentence in ended.err
    assert not (tmp_path / name).exists()


@needs_nncf
def test_eight_bits_need_data_of_the_same_classes(weights: Path, data: Path, tmp_path: Path, condetr: Command) -> None:
    file = data / "annotations" / "train.json"
    file.write_text(file.read_text().replace("bolt", "screw"))
    validation = data / "annotations" / "val.json"
    validation.write_text(validation.read_text().replace("bolt", "screw"))

    ended = condetr("convert", weights, tmp_path / "x.xml", "--int8", data)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "only in the data screw (3)" in ended.err

    file.unlink()
    ended = condetr("convert", weights, tmp_path / "x.xml", "--int8", data)
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "has no training split" in ended.err
    assert not (tmp_path / "x.xml").exists()
