import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from condetr.backbones.resnet import ResNetConfig
from condetr.cli.convert import FILES
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.detr import DetrConfig
from condetr.inference.model_folder import LoadedModel, load_model, write_model
from condetr.labels import Category, LabelMap
from tests.cli.conftest import Command


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A model folder of a small DETR."""
    torch.manual_seed(0)
    config = DetrConfig(
        backbone=ResNetConfig(depth=18),
        num_queries=4,
        dim=16,
        num_heads=8,
        feedforward_dim=8,
        encoder_layers=1,
        decoder_layers=1,
    )
    labels = LabelMap((Category(3, "bolt"), Category(7, "nut")))
    model = LoadedModel(config.build(num_classes=2, pretrained=False), config, LightTransformConfig(), labels)
    write_model(tmp_path / "weights", model)
    return tmp_path / "weights"


@pytest.mark.parametrize(
    ("name", "options"), [("a.pth", ()), ("a.onnx", ()), ("a", ()), ("a", ("--to", "transformers"))]
)
def test_it_ends_with_the_largest_difference(
    name: str, options: tuple[str, ...], weights: Path, tmp_path: Path, condetr: Command
) -> None:
    ended = condetr("convert", weights, tmp_path / name, *options)

    assert ended.code == 0, ended.err
    assert "largest |difference| on random images" in ended.out
    assert float(ended.out.split()[-1]) < 1e-5
    assert (tmp_path / name).exists()


def test_a_name_in_brackets_is_a_name(weights: Path, tmp_path: Path, condetr: Command) -> None:
    ended = condetr("convert", weights, tmp_path / "a[" / "b]")

    assert ended.code == 0, ended.err
    assert (tmp_path / "a[" / "b]" / "config.json").is_file()


def test_a_published_folder_says_whose_it_is(weights: Path, tmp_path: Path, condetr: Command) -> None:
    condetr("convert", weights, tmp_path / "nuts", "--to", "transformers")

    assert sorted(path.name for path in (tmp_path / "nuts").iterdir()) == [
        "README.md",
        "config.json",
        "labels.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert "| 1 | 7 | nut |" in (tmp_path / "nuts" / "README.md").read_text()


def test_misfits_are_shown_as_a_table_and_nothing_is_written(weights: Path, tmp_path: Path, condetr: Command) -> None:
    condetr("convert", weights, tmp_path / "a.pth")
    with torch.serialization.safe_globals([Namespace]):
        content = torch.load(tmp_path / "a.pth", weights_only=True)
    content["model"]["input_proj.bias"] = torch.zeros(3)
    torch.save(content, tmp_path / "a.pth")

    ended = condetr("convert", tmp_path / "a.pth", tmp_path / "b")

    assert ended.code == 2
    table, sentence = ended.err.rstrip("\n").rsplit("\n", 1)
    assert "input_proj.bias" in table
    assert sentence.startswith(f"condetr: {tmp_path / 'a.pth'} does not fit detr: input_proj.bias has shape (3,)")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("destination", "options", "sentence"),
    [
        ("weights", (), "exists already; name another destination, or add --overwrite"),
        ("weights", ("--overwrite",), "is the source of the weights"),
        ("", ("--overwrite",), "is the source of the weights"),
        ("weights/config.json", ("--overwrite",), "is not of the kind that would be written"),
        ("a.pth", ("--to", "condetr"), "official checkpoints are .pth files"),
        ("a", ("--to", "official"), "official checkpoints are .pth files"),
        ("a", ("--to", "onnx"), "ONNX graphs are .onnx files"),
        ("a.onnx", ("--to", "transformers"), "ONNX graphs are .onnx files"),
        ("a", ("--labels", "none.json"), "none.json"),
    ],
)
def test_a_wrong_destination_is_refused(
    destination: str, options: tuple[str, ...], sentence: str, weights: Path, tmp_path: Path, condetr: Command
) -> None:
    before = sorted(tmp_path.rglob("*"))

    ended = condetr("convert", weights, tmp_path / destination, *options)

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert sentence in ended.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("options", [(), ("--to", "transformers"), ("--to", "onnx"), ("--overwrite",)])
@pytest.mark.parametrize("suffix", [".engine", ".plan", ".rknn", ".tflite", ".mlmodel", ".MLPACKAGE"])
def test_what_others_make_of_a_graph_is_not_written(
    suffix: str, options: tuple[str, ...], weights: Path, tmp_path: Path, condetr: Command
) -> None:
    ended = condetr("convert", weights, tmp_path / f"x{suffix}", *options)

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"folders, not {tmp_path / 'x'}{suffix}; convert to {tmp_path / 'x.onnx'}, which other tools" in ended.err
    assert list(tmp_path.iterdir()) == [weights]


@pytest.mark.parametrize("suffix", [".pt", ".torchscript", ".bin", ".safetensors", ".ckpt", ".zip"])
def test_other_files_of_weights_are_not_written(suffix: str, weights: Path, tmp_path: Path, condetr: Command) -> None:
    ended = condetr("convert", weights, tmp_path / f"x.v2{suffix}")

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"folders, not {tmp_path / 'x.v2'}{suffix}; give {tmp_path / 'x.v2.pth'} or a folder" in ended.err
    assert list(tmp_path.iterdir()) == [weights]


@pytest.mark.parametrize("suffix", [".foo", ".ncnn", ".GGUF", ".pt3"])
def test_a_type_of_file_that_nobody_knows_is_refused(
    suffix: str, weights: Path, tmp_path: Path, condetr: Command
) -> None:
    ended = condetr("convert", weights, tmp_path / f"x{suffix}")

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f" files and folders, not {tmp_path / 'x'}{suffix}; if it is to be a folder, add --to condetr" in ended.err
    assert all(known in ended.err for known in FILES)
    assert list(tmp_path.iterdir()) == [weights]


def test_a_folder_may_be_named_like_a_file_if_that_is_said(weights: Path, tmp_path: Path, condetr: Command) -> None:
    first = condetr("convert", weights, tmp_path / "my.model", "--to", "condetr")
    again = condetr("convert", weights, tmp_path / "my.model", "--overwrite")

    assert (first.code, again.code) == (0, 0), (first.err, again.err)
    assert (tmp_path / "my.model" / "config.json").is_file()


@pytest.mark.parametrize("name", ["my-detector.v2", "run.2024-05-01", "x.engine.d"])
def test_a_folder_may_have_a_dot_in_its_name(name: str, weights: Path, tmp_path: Path, condetr: Command) -> None:
    ended = condetr("convert", weights, tmp_path / name)

    assert ended.code == 0, ended.err
    assert (tmp_path / name / "config.json").is_file()


def test_endings_may_be_in_capitals(weights: Path, tmp_path: Path, condetr: Command) -> None:
    first = condetr("convert", weights, tmp_path / "X.PTH")
    again = condetr("convert", tmp_path / "X.PTH", tmp_path / "Y.Pth")

    assert (first.code, again.code) == (0, 0), (first.err, again.err)
    assert (tmp_path / "X.PTH").is_file()


def test_a_folder_of_other_things_is_never_replaced(weights: Path, tmp_path: Path, condetr: Command) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "precious.jpg").touch()

    ended = condetr("convert", weights, tmp_path / "photos", "--overwrite")

    assert (ended.code, "is a folder but holds no model" in ended.err) == (2, True)
    assert (tmp_path / "photos" / "precious.jpg").exists()


def test_overwriting_replaces_a_model(weights: Path, tmp_path: Path, condetr: Command) -> None:
    for _ in range(2):
        ended = condetr("convert", weights, tmp_path / "b", "--to", "transformers", "--overwrite")
        assert ended.code == 0, ended.err

    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "weights"]


@pytest.mark.parametrize(
    "content",
    [
        [
            {"training_id": 0, "dataset_id": 1, "name": "screw"},
            {"training_id": 1, "dataset_id": 2, "name": "washer"},
        ],
        {"categories": [{"id": 2, "name": "washer"}, {"id": 1, "name": "screw"}]},
    ],
)
def test_labels_are_taken_from_a_file(content: object, weights: Path, tmp_path: Path, condetr: Command) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(content))

    ended = condetr("convert", weights, tmp_path / "b", "--labels", tmp_path / "labels.json")

    assert ended.code == 0, ended.err
    assert load_model(tmp_path / "b").label_map == LabelMap((Category(1, "screw"), Category(2, "washer")))
