import random

import torch
from hypothesis import given
from hypothesis import strategies as st

from condetr.data.batch import Sample, collate
from condetr.data.geometry import crop, fitted_hw, flip_horizontally, flip_vertically, resized_hw
from condetr.data.transforms import LightTransformConfig, PaperTransformConfig

sides = st.integers(1, 3000)
seeds = st.integers(0, 10_000)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Small random images with up to five boxes of whole pixels inside them."""
    height, width = draw(st.integers(2, 40)), draw(st.integers(2, 40))
    corners = [
        (*sorted(draw(st.lists(st.integers(0, limit), min_size=2, max_size=2, unique=True))),)
        for limit in [width, height] * draw(st.integers(0, 5))
    ]
    boxes = [[x[0], y[0], x[1], y[1]] for x, y in zip(corners[::2], corners[1::2], strict=True)]
    generator = torch.Generator().manual_seed(draw(seeds))
    return Sample(
        image=torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8),
        boxes_xyxy=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(len(boxes)),
        image_id=0,
        original_size_hw=(height, width),
    )


def assert_boxes_inside(sample: Sample) -> None:
    _, height, width = sample.image.shape
    x1, y1, x2, y2 = sample.boxes_xyxy.unbind(1)
    assert len(sample.boxes_xyxy) == len(sample.labels)
    assert bool((x1 >= 0).all() and (y1 >= 0).all() and (x2 <= width + 1e-3).all() and (y2 <= height + 1e-3).all())
    assert bool((x1 < x2).all() and (y1 < y2).all())


@given(samples())
def test_flipping_twice_gives_the_sample_back(sample: Sample) -> None:
    for flip in (flip_horizontally, flip_vertically):
        torch.testing.assert_close(flip(flip(sample)), sample)


@given(samples())
def test_flips_commute(sample: Sample) -> None:
    first, second = flip_vertically(flip_horizontally(sample)), flip_horizontally(flip_vertically(sample))

    torch.testing.assert_close(first, second)


@given(sides, sides, st.integers(1, 1000), st.integers(1, 2000))
def test_the_resize_rule_keeps_the_aspect_below_the_limit(height: int, width: int, short: int, limit: int) -> None:
    new_height, new_width = resized_hw((height, width), short_side=short, max_side=limit)
    new_short, new_long = min(new_height, new_width), max(new_height, new_width)
    aspect = max(height, width) / min(height, width)

    assert 1 <= new_short <= max(short, 1)
    assert new_long <= max(limit, aspect) + aspect / 2 + 1  # half a pixel of the short side is rounded up at most
    assert new_short * aspect - 1 <= new_long <= new_short * aspect
    assert (new_height <= new_width) == (height <= width) or new_height == new_width


@given(sides, sides, st.integers(1, 1000))
def test_the_resize_rule_commutes_with_turning_the_image(height: int, width: int, short: int) -> None:
    upright = resized_hw((height, width), short_side=short, max_side=1333)

    assert resized_hw((width, height), short_side=short, max_side=1333) == upright[::-1]


@given(sides, sides, sides, sides)
def test_fitting_stays_inside_and_touches_a_side(height: int, width: int, canvas_h: int, canvas_w: int) -> None:
    fitted = fitted_hw((height, width), into_hw=(canvas_h, canvas_w))

    assert 1 <= fitted[0] <= canvas_h
    assert 1 <= fitted[1] <= canvas_w
    assert fitted[0] == canvas_h or fitted[1] == canvas_w


@given(samples(), st.data())
def test_a_crop_of_a_crop_is_one_crop(sample: Sample, data: st.DataObject) -> None:
    _, height, width = sample.image.shape
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    inner_top, inner_left = data.draw(st.integers(0, height - 1 - top)), data.draw(st.integers(0, width - 1 - left))
    first = crop(sample, top=top, left=left, size_hw=(height - top, width - left))
    rest_hw = (height - top - inner_top, width - left - inner_left)

    twice = crop(first, top=inner_top, left=inner_left, size_hw=rest_hw)
    once = crop(sample, top=top + inner_top, left=left + inner_left, size_hw=rest_hw)

    assert_boxes_inside(once)
    torch.testing.assert_close(twice, once)


@given(samples(), seeds)
def test_boxes_stay_inside_under_every_augmentation(sample: Sample, seed: int) -> None:
    paper = PaperTransformConfig(short_sides=(8, 16), max_side=40, crop_short_sides=(10, 20), crop_range=(6, 18))
    light = LightTransformConfig(size_hw=(20, 30), vertical_flip=0.5, scale=(0.5, 2.0), min_visible=0.2)
    for transform in (paper, light):
        assert_boxes_inside(transform.build_train()(sample, random.Random(seed)))


@given(samples(), samples())
def test_what_shares_a_batch_changes_neither_pixels_nor_boxes(sample: Sample, other: Sample) -> None:
    alone, together = collate([sample]), collate([sample, other])
    _, height, width = sample.image.shape

    torch.testing.assert_close(together.normalised()[:1, :, :height, :width], alone.normalised())
    count = alone.targets.counts[0]
    assert together.targets.counts[0] == count
    for ours, expected in zip(together.targets[:2], alone.targets[:2], strict=True):
        torch.testing.assert_close(ours[0, :count], expected[0])
    assert int((~together.is_padding[0]).sum()) == height * width
