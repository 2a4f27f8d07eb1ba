"""What the tests of the command share: running it in this process, and a data set of four small images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from condetr.backbones.resnet import SmallResNetConfig
from condetr.cli.main import main
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.inference.model_folder import save_model
from condetr.labels import Category, LabelMap

Coco = dict[str, Any]

TINY = [
    "detector.backbone.kind=small_resnet",
    "detector.backbone.widths=[4,4]",
    "detector.backbone.blocks=[1]",
    "detector.dim=8",
    "detector.num_heads=2",
    "detector.num_queries=4",
    "detector.feedforward_dim=8",
    "detector.encoder_layers=1",
    "detector.decoder_layers=1",
    "data.batch_size=2",
    "data.workers=0",
    "epochs=1",
    "loggers=[]",
    "precision=32-true",
]
"""Settings with which an epoch on a handful of images takes no time."""


class Ended(NamedTuple):
    """How a command ended."""

    code: object
    out: str
    err: str


Command = Callable[..., Ended]
Train = Callable[..., Ended]


@pytest.fixture
def condetr(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process and return how it ended."""

    def run(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        return Ended(caught.value.code, *capsys.readouterr())

    return run


def coco_file(*, first_image: int, num_images: int) -> Coco:
    """Return annotations of 32x32 images with a box each, of the classes 3 and 7 in turn."""
    ids = range(first_image, first_image + num_images)
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 32, "height": 32} for i in ids],
        "annotations": [
            {"id": i, "image_id": i, "category_id": (3, 7)[i % 2], "bbox": [4, 6, 16, 12], "area": 192, "iscrowd": 0}
            for i in ids
        ],
        "categories": [{"id": 3, "name": "bolt"}, {"id": 7, "name": "nut"}],
    }


def write_coco(folder: Path, *, split: str, content: Coco) -> None:
    """Write annotations as `annotations/SPLIT.json`, and the images they list into `SPLIT/`."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    (folder / split).mkdir(exist_ok=True)
    for image in content["images"]:
        pixels = np.random.default_rng(image["id"]).integers(
            256, size=(image["height"], image["width"], 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(folder / split / image["file_name"])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of four training and two validation images."""
    write_coco(tmp_path / "bolts", split="train", content=coco_file(first_image=1, num_images=4))
    write_coco(tmp_path / "bolts", split="val", content=coco_file(first_image=5, num_images=2))
    return tmp_path / "bolts"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The run folder that a training would write."""
    return tmp_path / "run"


@pytest.fixture
def train(condetr: Command, run: Path) -> Train:
    """Train a tiny detector for one epoch."""

    def train(data: Path, *arguments: object, recipe: str = "conditional_detr_tiny", out: Path = run) -> Ended:
        settings = [part for setting in TINY for part in ("--set", setting)]
        return condetr("train", recipe, "--data", data, "--out", out, *settings, *arguments)

    return train


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """An untrained model of the classes 3 and 7."""
    backbone = SmallResNetConfig(widths=(8, 8), blocks=(1,))
    config = ConditionalDetrConfig(
        backbone=backbone, num_queries=4, dim=8, num_heads=2, feedforward_dim=8, encoder_layers=1, decoder_layers=1
    )
    save_model(
        tmp_path / "weights",
        config.build(num_classes=2),
        detector_config=config,
        transform=LightTransformConfig(),
        label_map=LabelMap((Category(3, "bolt"), Category(7, "nut"))),
    )
    return tmp_path / "weights"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images, two of one name."""
    for number, name in enumerate(("a/photo.jpg", "b/photo.png", "c.jpg")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 48, 3), 60 * number, np.uint8)).save(path)
    return tmp_path / "photos"
