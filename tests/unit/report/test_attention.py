from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condetr.backbones.resnet import SmallResNetConfig
from condetr.data.dataset import ImageRecord, Split
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.detr import DetrConfig
from condetr.inference.model_folder import save_model
from condetr.inference.predictor import Predictor
from condetr.interop.loading import load
from condetr.labels import Category, LabelMap
from condetr.report.attention import SHOWN, make_attention
from condetr.shapes import Detections

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))
DETECTOR = DetrConfig(
    backbone=SmallResNetConfig(widths=(4, 4), blocks=(1,)), num_queries=5, dim=16, num_heads=2, feedforward_dim=16,
    encoder_layers=1, decoder_layers=2,
)  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Predictor:
    """Return the untrained model of a run folder."""
    save_model(
        tmp_path / "best",
        DETECTOR.build(num_classes=2),
        detector_config=DETECTOR,
        transform=LightTransformConfig(),
        label_map=LABELS,
    )
    return load(tmp_path, device="cpu")


def image(number: int, folder: Path) -> ImageRecord:
    path = folder / f"{number}.png"
    noise = np.random.default_rng(number).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    nothing = np.zeros(0, np.float32)
    return ImageRecord(
        image_id=number, path=path, size_hw=(32, 48), boxes_xyxy=np.zeros((0, 4), np.float32),
        labels=nothing.astype(np.int64), is_crowd=nothing.astype(bool), areas=nothing,
    )  # fmt: skip


def found(score: float, name: str) -> Detections:
    box = np.array([[4, 4, 20, 20]], np.float32)
    return Detections(boxes_xyxy=box, scores=np.array([score], np.float32), labels=np.array([0]), names=(name,))


def test_the_most_certain_image_of_each_class_comes_first(model: Predictor, tmp_path: Path) -> None:
    split = Split(name="val", records=tuple(image(number, tmp_path) for number in range(5)), label_map=LABELS)
    scores = [(0.6, "nut"), (0.9, "bolt"), (0.8, "bolt"), (0.7, "nut"), (0.1, "nut")]
    detections = {number: found(score, name) for number, (score, name) in enumerate(scores)}

    attention = make_attention(model, split, detections, threshold=0.01)

    assert attention is not None
    assert [picture.caption.split(" ")[0] for picture in attention.pictures] == ["1.png", "3.png", "2.png"][:SHOWN]
    assert attention.habits.images == 5
    assert attention.habits.detections >= 5
    assert attention.layer == 1
    shares = attention.habits.groups[0].shares
    assert shares is not None
    assert shares.shape[:2] == (2, 2)  # layers and heads


def test_images_that_cannot_be_read_or_hold_nothing_are_passed_over(model: Predictor, tmp_path: Path) -> None:
    split = Split(name="val", records=tuple(image(number, tmp_path) for number in range(2)), label_map=LABELS)
    (tmp_path / "0.png").write_bytes(b"no image")

    assert make_attention(model, split, {0: found(0.9, "nut")}, threshold=0.01) is None
    assert make_attention(model, split, {1: found(0.9, "nut")}, threshold=0.95) is None
