from collections.abc import Callable

import pytest
import torch

from condetr.data.batch import Sample
from condetr.data.geometry import crop, fitted_hw, flip_horizontally, flip_vertically, pad, resize, resized_hw


def sample(height: int = 40, width: int = 60, *, box: tuple[float, ...] = (10, 4, 30, 20)) -> Sample:
    """A black image, white inside its only box."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    x1, y1, x2, y2 = (int(side) for side in box)
    image[:, y1:y2, x1:x2] = 255
    return Sample(image, torch.tensor([box], dtype=torch.float32), torch.tensor([0]), 1, (height, width))


def white_extent(sample: Sample) -> list[float]:
    rows, columns = torch.nonzero(sample.image[0] > 127, as_tuple=True)
    return [columns.min().item(), rows.min().item(), columns.max().item() + 1.0, rows.max().item() + 1.0]


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((480, 640), (800, 1066)), ((302, 640), (629, 1332)), ((427, 640), (800, 1199)), ((640, 427), (1199, 800))],
)
def test_sizes_agree_with_the_published_examples(size_hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_hw(size_hw, short_side=800, max_side=1333) == expected


def test_an_image_whose_short_side_fits_already_keeps_its_size() -> None:
    assert resized_hw((800, 1001), short_side=800, max_side=1333) == (800, 1001)


def test_the_long_side_is_unbounded_without_a_limit() -> None:
    assert resized_hw((100, 1000), short_side=400) == (400, 4000)


@pytest.mark.parametrize(
    ("size_hw", "expected"), [((100, 200), (64, 128)), ((50, 10), (128, 26)), ((1, 999), (1, 128))]
)
def test_fitting_touches_the_canvas_on_one_side(size_hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fitted_hw(size_hw, into_hw=(128, 128)) == expected


def test_boxes_scale_by_the_actual_ratios_of_the_sides() -> None:
    resized = resize(sample(40, 60), size_hw=(20, 90))

    torch.testing.assert_close(resized.boxes_xyxy, torch.tensor([[15.0, 2.0, 45.0, 10.0]]))
    assert white_extent(resized) == [15, 2, 45, 10]


@pytest.mark.parametrize("flip", [flip_horizontally, flip_vertically])
def test_boxes_follow_a_flip(flip: Callable[[Sample], Sample]) -> None:
    flipped = flip(sample())

    assert flipped.boxes_xyxy[0].tolist() == white_extent(flipped)
    assert flipped.boxes_xyxy[0].tolist() != sample().boxes_xyxy[0].tolist()


def test_a_crop_shifts_and_clips_boxes() -> None:
    cropped = crop(sample(), top=2, left=20, size_hw=(10, 30))

    assert cropped.image.shape == (3, 10, 30)
    assert cropped.boxes_xyxy[0].tolist() == white_extent(cropped) == [0, 2, 10, 10]


def test_a_crop_keeps_slivers_and_drops_boxes_that_only_touch_it() -> None:
    assert len(crop(sample(), top=0, left=29, size_hw=(10, 10)).labels) == 1
    assert len(crop(sample(), top=0, left=30, size_hw=(10, 10)).labels) == 0


def test_a_crop_drops_boxes_of_which_too_little_stays_visible() -> None:
    half = {"top": 0, "left": 20, "size_hw": (40, 40)}

    assert len(crop(sample(), **half, min_visible=0.5).labels) == 1  # type: ignore[arg-type]
    assert len(crop(sample(), **half, min_visible=0.51).labels) == 0  # type: ignore[arg-type]


def test_padding_moves_boxes_with_the_image() -> None:
    padded = pad(sample(), top=5, left=7, size_hw=(60, 80))

    assert padded.image.shape == (3, 60, 80)
    assert padded.boxes_xyxy[0].tolist() == [17, 9, 37, 25]
    assert white_extent(padded) == [17, 9, 37, 25]
