"""A kind of image gives the same pixels, wherever it comes from."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condetr.data.images import read_image
from condetr.errors import InputError
from condetr.inference.pixels import read_pixels
from condetr.inference.video import require_av

LEVELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(LEVELS).save(path, exif=exif)


def sixteen_bits(path: Path) -> None:
    Image.fromarray(LEVELS[..., 0].astype(np.uint16) * 257).save(path)


def palette(path: Path) -> None:
    Image.fromarray(LEVELS).quantize(8).save(path, transparency=0)


def cmyk(path: Path) -> None:
    Image.fromarray(LEVELS).convert("CMYK").save(path, quality=95)


def grey_with_alpha(path: Path) -> None:
    Image.fromarray(LEVELS).convert("LA").save(path)


KINDS: dict[str, Callable[[Path], None]] = {
    "turned.jpg": turned,
    "16.png": sixteen_bits,
    "16.tif": sixteen_bits,
    "palette.png": palette,
    "palette.gif": palette,
    "cmyk.jpg": cmyk,
    "grey.png": grey_with_alpha,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_its_content_and_the_opened_image_are_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    KINDS[name](path)
    expected = read_image(path)

    with Image.open(path) as image:
        for given in (path, str(path), path.read_bytes(), image):
            torch.testing.assert_close(read_pixels(given), expected, rtol=0, atol=0)
    assert expected.shape == ((3, 20, 12) if name == "turned.jpg" else (3, 12, 20))


def test_the_upper_bits_of_sixteen_are_those_of_the_file(tmp_path: Path) -> None:
    sixteen_bits(tmp_path / "16.png")

    torch.testing.assert_close(read_pixels(LEVELS[..., 0].astype(np.uint16) * 257), read_image(tmp_path / "16.png"))


def test_bytes_that_are_no_image_are_refused() -> None:
    with pytest.raises(InputError, match="an image of 3 bytes cannot be read as an image"):
        read_pixels(b"abc")


def test_without_pyav_videos_are_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)

    with pytest.raises(InputError, match="videos and cameras need PyAV: pip install av"):
        require_av()
