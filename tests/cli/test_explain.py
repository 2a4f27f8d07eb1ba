"""`condetr explain`: pictures, arrays and numbers, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.inference.model_folder import save_model
from condetr.labels import Category, LabelMap
from tests.cli.conftest import Command
from tests.tiny import TINY
from tests.unit.explain.explorer_pages import read_data


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with untrained models, `conditional`, `detr` and `deformable`, and `image.png`."""
    folder = tmp_path_factory.mktemp("explain")
    configs: dict[str, ConditionalDetrConfig | DetrConfig | DeformableDetrConfig] = {
        "conditional": ConditionalDetrConfig(**TINY),
        "detr": DetrConfig(**TINY),
        "deformable": DeformableDetrConfig(**TINY),
    }
    for name, config in configs.items():
        save_model(
            folder / name,
            config.build(num_classes=2),
            detector_config=config,
            transform=LightTransformConfig(),
            label_map=LabelMap((Category(3, "bolt"), Category(7, "a$b_{}"))),
        )
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "image.png")
    (folder / "text.png").write_text("no image")
    (folder / "run" / "checkpoints").mkdir(parents=True)
    return folder


def test_two_models_are_shown_one_beside_the_other(models: Path, condetr: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = condetr(
        "explain", models / "conditional", models / "image.png", "--beside", models / "detr", "--query", 3, "--out", out
    )
    assert ended.code == 0, ended.err
    (detection,) = json.loads((out / "explanation.json").read_text())["detections"]
    (beside,) = detection["beside"]
    assert (detection["query"], detection["layer"], len(detection["heads"])) == (3, 1, 2)
    assert beside["reference_xy"] is None
    for name in (detection["picture"], beside["picture"], detection["models_picture"]):
        with Image.open(out / name) as picture:
            assert picture.width > 700
    with np.load(out / detection["maps"]) as arrays:
        maps = dict(arrays)
    logits = maps["spatial_logits"] + maps["content_logits"]
    weights = np.exp(logits - logits.max(axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(maps["combined"], weights / weights.sum(axis=(1, 2), keepdims=True), atol=1e-6)


def test_points_are_shown_beside_maps(models: Path, condetr: Command, tmp_path: Path) -> None:
    arguments = (models / "deformable", models / "image.png", "--beside", models / "conditional", "--query", 1)
    ended = condetr("explain", *arguments, "--out", tmp_path, "--html", tmp_path / "page.html")
    assert ended.code == 0, ended.err
    assert "where heads look: points" in ended.out
    data = read_data(tmp_path / "page.html", model=1)
    assert [model["looks_at"] for model in data["models"]] == ["points", "cells"]
    assert data["name"] == str(models / "conditional")
    (detection,) = json.loads((tmp_path / "explanation.json").read_text())["detections"]
    (beside,) = detection["beside"]
    assert set(detection["heads"][0]) == {"points", "by_level", "in_image"}
    assert set(beside["heads"][0]) == {"spatial", "content", "combined"}
    assert sum(detection["heads"][0]["by_level"]) == pytest.approx(1)
    for name in (detection["picture"], beside["picture"], detection["models_picture"]):
        assert (tmp_path / name).is_file()


def test_every_detection_is_explained_in_the_first_layer(models: Path, condetr: Command, tmp_path: Path) -> None:
    options = ("--query", "all", "--threshold", 0, "--layer", 0, "--heads", "sides", "--out", tmp_path)
    ended = condetr("explain", models / "detr", models / "image.png", *options)
    assert ended.code == 0, ended.err
    detections = json.loads((tmp_path / "explanation.json").read_text())["detections"]
    assert sorted(each["query"] for each in detections) == [0, 1, 2, 3, 4]
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.npz"))) == 5


def test_the_first_layer_of_conditional_detr_is_called_mixed(models: Path, condetr: Command, tmp_path: Path) -> None:
    condetr("explain", models / "conditional", models / "image.png", "--query", 0, "--layer", 0, "--out", tmp_path)
    (detection,) = json.loads((tmp_path / "explanation.json").read_text())["detections"]
    assert detection["content_holds_positions"] is True


def test_a_page_is_written_beside_the_same_results(models: Path, condetr: Command, tmp_path: Path) -> None:
    arguments = ("explain", models / "conditional", models / "image.png", "--query", 3, "--layer", 0)
    condetr(*arguments, "--out", tmp_path / "without")
    ended = condetr(*arguments, "--out", tmp_path / "with", "--html", tmp_path / "pages" / "page.html")
    assert ended.code == 0, ended.err
    assert f"page: {tmp_path / 'pages' / 'page.html'}" in ended.out
    data = read_data(tmp_path / "pages" / "page.html")
    assert (data["first_layer"], data["detections"][0]["query"]) == (0, 3)
    for name in ("explanation.json", "query-3.npz", "query-3.png"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


@pytest.mark.parametrize("model", ["conditional", "deformable"])
def test_habits_are_counted_over_a_data_set(
    model: str, models: Path, data: Path, condetr: Command, tmp_path: Path
) -> None:
    arguments = ("explain", models / model, "--over", data, "--threshold", 0, "--out", tmp_path / "out")
    ended = condetr(*arguments)
    assert ended.code == 0, ended.err
    assert "share of 10 detections in which a head of layer 1 watches" in ended.out
    assert "2 images" in ended.out
    habits = json.loads((tmp_path / "out" / "habits.json").read_text())
    assert (habits["split"], habits["images"], habits["detections"]) == ("val", 2, 10)
    assert all(sum(head.values()) == pytest.approx(1) for layer in habits["groups"][0]["layers"] for head in layer)
    with Image.open(tmp_path / "out" / "habits.png") as picture:
        assert picture.width > 700
    fewer = condetr(*arguments, "--overwrite", "--images", 1, "--split", "train", "--json")
    assert (json.loads(fewer.out)["images"], json.loads(fewer.out)["split"]) == (1, "train")
    assert json.loads(fewer.out) == json.loads((tmp_path / "out" / "habits.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["conditional", "--over", "{data}", "--layer", "0", "--html", "a.html"], "leave out --layer and --html"),
        (["conditional", "{models}/image.png", "--over", "{data}"], "leave out IMAGE"),
        (["conditional", "--over", "{data}", "--threshold", "1"], "nothing in 2 images scores 1 or more"),
        (["conditional", "--over", "{data}", "--split", "test"], "test"),
        (["conditional", "--over", "{models}/gone"], "gone"),
        (["conditional"], "name an image to explain, or a data set with --over"),
        (
            ["conditional", "{models}/image.png", "--split", "val"],
            "--split cannot be used with one image, only with a data set",
        ),
    ],
)
def test_a_data_set_that_cannot_be_explained_is_refused_in_one_line(
    arguments: list[str], sentence: str, models: Path, data: Path, condetr: Command, tmp_path: Path
) -> None:
    weights, *others = (argument.format(models=models, data=data) for argument in arguments)
    ended = condetr("explain", models / weights, *others, "--out", tmp_path / "out")
    assert ended.code == 2
    assert sentence in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["conditional", "image.png", "--query", "5"], "there is no query 5; the queries of this model are 0 to 4"),
        (["conditional", "image.png", "--query", "worst"], "--query worst is neither best, all, nor the number"),
        (["conditional", "image.png", "--query", "0", "--layer", "2"], "there is no decoder layer 2"),
        (["conditional", "image.png", "--query", "0", "--layer", "-1"], "there is no decoder layer -1"),
        (["conditional", "image.png", "--query", "0", "--heads", "0,2"], "there is no head 2 in"),
        (["conditional", "image.png", "--heads", "left"], "--heads left is neither all, sides, nor numbers"),
        (["conditional", "image.png", "--threshold", "0.99"], "nothing in the image scores 0.99 or more"),
        (["conditional", "text.png"], "text.png"),
        (["conditional", "gone.png"], "gone.png does not exist"),
        (["conditional", "image.png", "--query", "0", "--beside", "{models}/gone"], "gone does not exist"),
        (["conditional", "image.png", "--query", "0", "--html", "{models}"], "is a folder; name a file in it"),
        (["conditional", "image.png", "--query", "0", "--html", "{models}/text.png"], "is there already; name another"),
        (
            ["conditional", "image.png", "--query", "0", "--html", "{models}/text.png/page.html"],
            "text.png is a file, but",
        ),
        (["run", "image.png"], "holds neither config.json nor best/config.json"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_line(
    arguments: list[str], sentence: str, models: Path, condetr: Command, tmp_path: Path
) -> None:
    weights, image, *options = (argument.format(models=models) for argument in arguments)
    ended = condetr("explain", models / weights, models / image, *options, "--out", tmp_path / "out")
    assert ended.code == 2
    assert sentence in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_not_written_into(models: Path, condetr: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    ended = condetr("explain", models / "conditional", models / "image.png", "--query", 0, "--out", tmp_path)
    assert ended.code == 2
    assert "is not empty" in ended.err
