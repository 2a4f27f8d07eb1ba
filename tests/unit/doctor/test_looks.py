from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from torch import Tensor

from condetr.doctor import looks
from condetr.doctor.looks import look_at, lookalikes


def photo(seed: int) -> Image.Image:
    """Return a picture of 320x240 with coarse and fine structure, as photos have."""
    grain = np.random.default_rng(seed).integers(256, size=(240, 320, 3), dtype=np.uint8)
    coarse = Image.fromarray(grain[:6, :8]).resize((320, 240), Image.Resampling.BICUBIC)
    return Image.blend(coarse, Image.fromarray(grain).filter(ImageFilter.GaussianBlur(2)), alpha=0.3)


def as_jpeg(image: Image.Image) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=60)
    return Image.open(buffer)


def pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def pairs(*images: Image.Image) -> list[tuple[int, int]]:
    words = np.stack([look_at(pixels(image)).hash_words for image in images])
    return list(lookalikes(words, splits=np.zeros(len(words), dtype=np.int64), contents=np.arange(len(words))))


COPIES = {
    "jpeg": (photo(0), as_jpeg(photo(0))),
    "half": (photo(0), photo(0).resize((160, 120))),
    "brighter": (photo(0), photo(0).point([min(255, value * 11 // 10) for value in range(256)] * 3)),
    "next frame": (photo(0).crop((0, 0, 316, 240)), photo(0).crop((2, 0, 318, 240))),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_looks_the_same(copy: str) -> None:
    assert pairs(*COPIES[copy]) == [(1, 0)]


def test_different_and_mirrored_images_do_not_look_the_same() -> None:
    assert pairs(*map(photo, range(9)), photo(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == []


def test_the_spread_is_that_of_the_channel_with_the_most() -> None:
    image = torch.tensor([[[3, 9]], [[0, 255]], [[7, 7]]], dtype=torch.uint8)

    assert look_at(image).spread == 255


@given(
    images=st.lists(st.tuples(st.sampled_from([0, 1, 2**64 - 1]), st.integers(0, 2), st.integers(0, 3)), max_size=12),
    pairs_at_once=st.integers(1, 40),
)
def test_lookalikes_are_the_first_ones_inside_and_outside_of_the_split(
    images: list[tuple[int, int, int]], pairs_at_once: int
) -> None:
    words = np.array([[word] * 4 for word, _, _ in images], dtype=np.uint64).reshape(-1, 4)
    splits, contents = (np.array([image[part] for image in images], dtype=np.int64) for part in (1, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "_PAIRS_AT_ONCE", pairs_at_once)
        found = sorted(lookalikes(words, splits=splits, contents=contents))

    slow = []
    for later in range(len(images)):
        alike = [
            earlier
            for earlier in range(later)
            if sum(int(a ^ b).bit_count() for a, b in zip(words[later], words[earlier], strict=True)) <= 48
            and contents[earlier] != contents[later]
        ]
        inside = [earlier for earlier in alike if splits[earlier] == splits[later]]
        outside = [earlier for earlier in alike if splits[earlier] != splits[later]]
        slow += [(later, some[0]) for some in (inside, outside) if some]
    assert found == sorted(slow)
