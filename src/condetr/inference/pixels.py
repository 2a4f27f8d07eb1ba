"""The pixels of an image, however it is given."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from condetr.data.images import decode_image, read_image, to_rgb
from condetr.errors import InputError
from condetr.inference.remote import read_remote
from condetr.storage.remote import is_remote

Picture = Path | str | bytes | Image.Image | np.ndarray | Tensor
"""An image file, an address on the web or in object storage, the content of a file, a PIL image, an array or a tensor.

Arrays are height x width or height x width x 1, 3 (RGB) or 4 channels (RGBA, whose transparency is dropped), tensors
have the channels first. Both hold uint8, uint16 (the upper 8 bits are used), or floats from 0 to 1.
"""

Content = Path | bytes
"""An image file, or what is in it."""

_CHANNELS = (1, 3, 4)


def read_pixels(image: Picture) -> UInt8[Tensor, "3 H W"]:
    """Return an image in RGB, upright as its EXIF orientation says; raises InputError if it cannot be used."""
    if isinstance(image, str | Path):
        return _read_named(image)
    if isinstance(image, bytes):
        return decode_image(image, name=f"an image of {len(image):,} bytes")
    if isinstance(image, Image.Image):
        return torch.from_numpy(np.array(to_rgb(image))).permute(2, 0, 1)
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        array = image.numpy() if image.dtype != torch.bfloat16 else image.float().numpy()
        return _array_pixels(np.moveaxis(array, 0, -1) if array.ndim == 3 else array, given=_Given(image))
    return _array_pixels(image, given=_Given(image))


def read_source(source: Path | str) -> tuple[Content, UInt8[np.ndarray, "H W 3"]]:
    """Return a file, or the content of what is at an address, and its pixels as `read_pixels` does."""
    if isinstance(source, Path):
        return source, read_image(source).permute(1, 2, 0).numpy()
    content = read_remote(source)
    return content, decode_image(content, name=source).permute(1, 2, 0).numpy()


def _read_named(image: str | Path) -> UInt8[Tensor, "3 H W"]:
    if isinstance(image, str) and is_remote(image):
        return decode_image(read_remote(image), name=image)
    if str(image).strip() in ("", "."):
        raise InputError("the name of the image is empty: give a file or an address")
    return read_image(Path(image))


class _Given:
    """What was given, in words."""

    def __init__(self, image: object) -> None:
        self.image = image

    def __str__(self) -> str:
        if isinstance(self.image, np.ndarray | Tensor):
            return f"shape {tuple(self.image.shape)} and type {self.image.dtype}"
        return str(type(self.image))


def _array_pixels(array: np.ndarray, *, given: _Given) -> UInt8[Tensor, "3 H W"]:
    is_image = isinstance(array, np.ndarray) and array.size > 0 and array.ndim in (2, 3)
    if not is_image or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        raise InputError(
            f"an image array must be height x width x 3 (RGB), grey or RGBA, a tensor 3 x height x width; got {given}"
        )
    levels = _to_bytes(array if array.ndim == 3 else array[..., None], given=given)[..., :3]
    return torch.from_numpy(np.array(np.broadcast_to(levels, (*levels.shape[:2], 3)))).permute(2, 0, 1)


def _to_bytes(array: np.ndarray, *, given: _Given) -> UInt8[np.ndarray, "H W C"]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating) and array.min() >= 0 and array.max() <= 1:
        return (array * 255).round().astype(np.uint8)
    raise InputError(
        f"an image array must hold uint8, uint16 or floats from 0 to 1, got {given}"
        + (f" from {array.min():g} to {array.max():g}; scale it, without a mean or deviation" if array.size else "")
    )
