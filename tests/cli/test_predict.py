import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from condetr.backbones.resnet import SmallResNetConfig
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.inference.model_folder import save_model
from condetr.labels import Category, LabelMap

Command = Callable[..., Any]


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


def test_every_image_gets_a_picture_also_where_names_repeat(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    ended = condetr("predict", weights, photos, "--out", tmp_path / "out")

    assert ended.code in (0, None)
    assert sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir()) == [
        "c.jpg",
        "photo-2.jpg",
        "photo.jpg",
    ]


def test_detections_are_a_coco_file_with_the_ids_of_the_data(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    condetr("predict", weights, photos, "--out", tmp_path / "out", "--limit", 3)

    coco = COCO(str(tmp_path / "out" / "detections.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [
        str(photos / name) for name in ("a/photo.jpg", "b/photo.png", "c.jpg")
    ]
    assert {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())} == {3: "bolt", 7: "nut"}
    assert {annotation["category_id"] for annotation in coco.anns.values()} <= {3, 7}
    assert len(coco.anns) == 3 * 3


def test_the_threshold_is_for_pictures_only(condetr: Command, weights: Path, photos: Path, tmp_path: Path) -> None:
    ended = condetr("predict", weights, photos / "c.jpg", "--out", tmp_path / "out", "--threshold", 1)

    assert "0 objects with a score of 1 or more" in ended.out
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["annotations"]) == 4


def test_an_unreadable_image_among_others_is_counted_and_left_out(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes(b"no image")

    ended = condetr("predict", weights, photos, "--out", tmp_path / "out")

    assert ended.code in (0, None)
    assert "1 of 4 images left out" in ended.err
    assert "broken.jpg" in ended.err
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["images"]) == 3


def test_only_unreadable_images_are_refused(condetr: Command, weights: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "c.jpg").write_bytes(b"no image")

    ended = condetr("predict", weights, photos / "c.jpg", "--out", tmp_path / "out")

    assert ended.code == 2
    assert "no image could be read, of 1" in ended.err


def test_results_are_not_overwritten_unless_said(condetr: Command, weights: Path, photos: Path, tmp_path: Path) -> None:
    command = ("predict", weights, photos, "--out", tmp_path / "out")
    condetr(*command)

    assert condetr(*command).code == 2
    assert condetr(*command, "--overwrite").code in (0, None)


def test_what_is_left_out_and_pages_that_are_not_read_are_a_line_each(
    condetr: Command, weights: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "film.mp4").touch()
    page = Image.new("RGB", (48, 32))
    page.save(photos / "pages.tif", save_all=True, append_images=[page])

    ended = condetr("predict", weights, photos, "--out", tmp_path / "out")

    assert ended.code in (0, None)
    left_out, pages = [line for line in ended.err.splitlines() if line]
    assert left_out.startswith(f"condetr: left out of {photos}: 1 file that cannot be read as images (film.mp4); ")
    assert pages.endswith(f" with several pages or frames, of which only the first was used: {photos / 'pages.tif'}")
