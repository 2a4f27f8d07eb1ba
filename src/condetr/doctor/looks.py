"""How images look: whether there is anything in them, and which look the same although their bytes differ."""

from collections.abc import Iterator
from typing import NamedTuple

import imagehash
import numpy as np
from jaxtyping import Int, UInt8, UInt64
from PIL import Image
from torch import Tensor

_HASH_SIDE = 16  # with 8 bits a side drawn scenes differ by 10 of 64 bits, no more than neighbouring frames do
# Of 256 bits. Among 3,500 photos, microscope images, steel surfaces and drawn scenes, every pair within 48 shows the
# same place; the first that does not is at 56, of a person at two places. Copies that are saved as JPEG of quality 60,
# halved, a tenth brighter, or shifted sideways by two pixels are within 48 in 98 to 100 of 100 cases.
_MOST_BITS = 48
_PAIRS_AT_ONCE = 2**18


class Look(NamedTuple):
    """What tells images apart at a glance."""

    spread: int
    """The largest difference of two pixels in a colour channel, 0 to 255."""
    hash_words: UInt64[np.ndarray, " 4"]
    """The 256 bits of a perceptual hash: the more of them differ, the less images look alike."""


def look_at(pixels: UInt8[Tensor, "3 H W"]) -> Look:
    """Look at the decoded pixels of an image."""
    array = pixels.permute(1, 2, 0).numpy()
    bits = imagehash.phash(Image.fromarray(array), hash_size=_HASH_SIDE).hash
    spread = max(int(np.ptp(array[..., channel])) for channel in range(3))
    return Look(spread, hash_words=np.packbits(bits).view(np.uint64))


def lookalikes(
    hash_words: UInt64[np.ndarray, "N 4"], *, splits: Int[np.ndarray, " N"], contents: Int[np.ndarray, " N"]
) -> Iterator[tuple[int, int]]:
    """Yield each image that looks like an earlier one, with the first such one of its split and of the other splits.

    Images of the same number in `contents` are not compared.
    """
    num_images = len(hash_words)
    rows = max(1, _PAIRS_AT_ONCE // max(1, num_images))
    for start in range(0, num_images, rows):
        block, before = slice(start, start + rows), slice(0, start + rows)
        alike = _different_bits(hash_words[block], hash_words[before]) <= _MOST_BITS
        alike &= contents[block, None] != contents[None, before]
        alike = np.tril(alike, k=start - 1)
        is_same_split = splits[block, None] == splits[None, before]
        for found in (alike & is_same_split, alike & ~is_same_split):
            for row in np.flatnonzero(found.any(axis=1)).tolist():
                yield start + row, int(found[row].argmax())


def _different_bits(a_words: UInt64[np.ndarray, "N 4"], b_words: UInt64[np.ndarray, "P 4"]) -> Int[np.ndarray, "N P"]:
    bits = np.zeros((len(a_words), len(b_words)), dtype=np.int16)
    for a, b in zip(a_words.T, np.ascontiguousarray(b_words.T), strict=True):
        bits += np.bitwise_count(a[:, None] ^ b[None])
    return bits
