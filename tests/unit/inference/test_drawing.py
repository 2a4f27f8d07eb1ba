from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condetr.data.batch import Sample, collate
from condetr.data.dataset import ImageRecord
from condetr.inference.drawing import (
    HIT,
    PALETTE,
    WRONG,
    draw_batch,
    draw_detections,
    draw_judged,
    draw_side_by_side,
    draw_truth,
)
from condetr.labels import Category, LabelMap
from condetr.shapes import Detections

LABELS = LabelMap(tuple(Category(number, f"class {number}") for number in range(20)))
BOX = (20.0, 30.0, 90.0, 110.0)


def guess(*boxes: tuple[float, ...], label: int = 0) -> Detections:
    return Detections(
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.1, len(boxes), dtype=np.float32),
        labels=np.full(len(boxes), label),
        names=(LABELS.names[label],) * len(boxes),
    )


def truth(*boxes: tuple[float, ...]) -> ImageRecord:
    boxes_xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return ImageRecord(
        image_id=1,
        path=Path("none.jpg"),
        size_hw=(480, 640),
        boxes_xyxy=boxes_xyxy,
        labels=np.zeros(len(boxes), np.int64),
        is_crowd=np.zeros(len(boxes), bool),
        areas=np.ones(len(boxes), np.float32),
    )


def grey(*, width: int = 640, height: int = 480) -> Image.Image:
    return Image.new("RGB", (width, height), "#808080")


@pytest.mark.parametrize("label", [0, 3, 19])
def test_a_box_is_drawn_in_the_colour_of_its_class(label: int) -> None:
    drawn = draw_detections(grey(), guess(BOX, label=label))

    color = PALETTE[label % len(PALETTE)]
    assert drawn.getpixel((20, 80)) == tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))
    assert drawn.getpixel((55, 80)) == (128, 128, 128)


def test_the_given_image_is_left_alone() -> None:
    image = grey()

    draw_detections(image, guess(BOX))

    assert image.getcolors() == [(640 * 480, (128, 128, 128))]


@pytest.mark.parametrize("side", [1, 9, 128, 399])
def test_small_images_are_enlarged_by_a_whole_factor(side: int) -> None:
    drawn = draw_detections(grey(width=side, height=side), guess((0.0, 0.0, side / 2, side / 2)))

    assert min(drawn.size) >= 400
    assert drawn.width % side == 0


def test_large_images_keep_their_size() -> None:
    assert draw_detections(grey(), guess(BOX)).size == (640, 480)


def test_nothing_found_is_the_plain_image() -> None:
    assert draw_detections(grey(), guess()).tobytes() == grey().tobytes()


def test_boxes_over_and_beyond_the_border_are_drawn_without_error() -> None:
    found = guess((-50.0, -50.0, 700.0, 500.0), (-90.0, 10.0, -10.0, 60.0), (30.0, 30.0, 30.0, 30.0))

    assert draw_detections(grey(), found).size == (640, 480)


def test_ground_truth_and_prediction_stand_side_by_side() -> None:
    sheet = draw_side_by_side(grey(), truth(BOX), guess(), label_map=LABELS)

    assert sheet.width > 2 * 640
    assert sheet.crop((sheet.width - 640, sheet.height - 480, *sheet.size)).tobytes() == grey().tobytes()
    left = sheet.crop((0, sheet.height - 480, 640, sheet.height))
    assert left.tobytes() == draw_truth(grey(), truth(BOX), label_map=LABELS).tobytes() != grey().tobytes()


def rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def test_hits_have_a_whole_frame_and_the_rest_has_corners_of_another_colour() -> None:
    far = (300.0, 300.0, 500.0, 440.0)
    expected, found = draw_judged(
        grey(),
        truth(BOX, far),
        guess(BOX, far),
        kinds=("hit", "background"),
        is_found=np.array([True, False]),
        label_map=LABELS,
    )

    for side in (expected, found):
        assert side.picture.getpixel((20, 70)) == rgb(HIT)
        assert side.picture.getpixel((300, 432)) == rgb(WRONG)
        assert side.picture.getpixel((300, 370)) == (128, 128, 128), "a frame with corners alone is open between them"
    assert expected.caption == "ground truth: 1 of 2 missed"
    assert found.caption == "prediction: 1 right, 1 false alarm"


def test_an_image_without_objects_and_detections_is_judged() -> None:
    sides = draw_judged(grey(), truth(), guess(), kinds=(), is_found=np.zeros(0, bool), label_map=LABELS)

    assert [side.picture.tobytes() for side in sides] == [grey().tobytes()] * 2


def test_boxes_of_a_padded_batch_lie_on_their_objects() -> None:
    box = (100.0, 200.0, 300.0, 400.0)
    samples = [
        Sample(torch.full((3, height, 480), 128, dtype=torch.uint8), torch.tensor([box]), torch.tensor([3]), 1, (9, 9))
        for height in (480, 640)
    ]

    picture = draw_batch(collate(samples), label_map=LABELS)

    left, gap = 480, 8
    for x in (100 + gap, 100 + left + 2 * gap):
        assert picture.getpixel((x, 380 + gap)) == rgb(PALETTE[3])
        assert picture.getpixel((x + 60, 380 + gap)) == (128, 128, 128)
