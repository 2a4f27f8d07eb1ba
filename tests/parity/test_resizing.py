"""Images are resized and cropped to the sizes, and to the pixels, of the official code with PIL."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from condetr.data.batch import Sample
from condetr.data.geometry import crop, resize, resized_hw
from condetr.data.transforms import PaperTransformConfig


def sample(size_hw: tuple[int, int], *, seed: int = 0) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    return Sample(
        image=torch.randint(0, 256, (3, *size_hw), dtype=torch.uint8, generator=generator),
        boxes_xyxy=torch.tensor([[0.0, 0.0, size_hw[1], size_hw[0]]]),
        labels=torch.tensor([0]),
        image_id=0,
        original_size_hw=size_hw,
    )


def as_pil(sample: Sample) -> Image.Image:
    return Image.fromarray(sample.image.permute(1, 2, 0).numpy())


def rule_in_words(size_hw: tuple[int, int], *, short: int, limit: int) -> tuple[int, int]:
    """Return the size by the rule as the official code states it: width first, and both ways round written out."""
    height, width = size_hw
    least, most = float(min(width, height)), float(max(width, height))
    if most / least * short > limit:
        short = round(limit * least / most)
    if (width <= height and width == short) or (height <= width and height == short):
        return height, width
    if width < height:
        return int(short * height / width), short
    return short, int(short * width / height)


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((480, 640), (800, 1066)), ((302, 640), (629, 1332)), ((427, 640), (800, 1199)), ((640, 480), (1066, 800))],
)
def test_sizes_are_those_of_the_official_code(size_hw: tuple[int, int], expected: tuple[int, int]) -> None:
    prepared = PaperTransformConfig().build_eval()(sample(size_hw), random.Random(0))

    assert tuple(prepared.image.shape[1:]) == expected
    assert prepared.boxes_xyxy.tolist() == [[0, 0, expected[1], expected[0]]]


@given(st.integers(30, 2000), st.integers(30, 2000), st.sampled_from([480, 512, 640, 800]))
def test_all_sizes_follow_the_rule(height: int, width: int, short: int) -> None:
    expected = rule_in_words((height, width), short=short, limit=1333)

    assert resized_hw((height, width), short_side=short, max_side=1333) == expected


@pytest.mark.parametrize(("old_hw", "new_hw"), [((60, 80), (100, 133)), ((90, 50), (40, 22)), ((50, 50), (50, 73))])
def test_pixels_are_those_of_pil_within_one_level(old_hw: tuple[int, int], new_hw: tuple[int, int]) -> None:
    before = sample(old_hw)

    ours = resize(before, size_hw=new_hw).image.permute(1, 2, 0).numpy()
    theirs = np.asarray(as_pil(before).resize(new_hw[::-1], Image.Resampling.BILINEAR))

    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=20)
def test_crops_are_those_of_pil(top: int, left: int, height: int, width: int) -> None:
    before = sample((50, 50))

    ours = crop(before, top=top, left=left, size_hw=(height, width)).image.permute(1, 2, 0).numpy()

    np.testing.assert_array_equal(ours, np.asarray(as_pil(before).crop((left, top, left + width, top + height))))


@pytest.mark.parametrize("seed", range(6))
def test_training_ends_with_a_size_of_the_official_list(seed: int) -> None:
    config = PaperTransformConfig()

    prepared = config.build_train()(sample((120, 160)), random.Random(seed))

    height, width = prepared.image.shape[1:]
    assert min(height, width) in config.short_sides or max(height, width) <= 1333
    assert max(height, width) <= 1333
