"""Image files: what their headers say, whether they are whole, and their pixels."""

import io
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from condetr.data.index import LACKING
from condetr.data.stored.facts import Fact, find_out
from condetr.data.stored.places import content_of, open_image
from condetr.errors import InputError, InputWarning
from condetr.storage.remote import StorageError

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation upright."""

_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_TAIL_BYTES = 65536
_LABELS = frozenset({".txt", ".xml", ".json", ".csv"})
_NAMED = 3  # images that a warning names
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError),
    *(RuntimeError, IndexError, MemoryError),  # of damaged AVIF, of a damaged second frame of GIF, of JPEG 2000
)


class ImageHeader(NamedTuple):
    """What an image file says about itself before its pixels are decoded."""

    size_hw: tuple[int, int]
    """Pixels as displayed, that is after EXIF orientation."""
    is_turned: bool
    """True where EXIF orientation swaps the stored height and width."""
    is_16_bit: bool = False
    """True where pixels are stored in 16 bits a channel, of which the upper 8 are used."""
    has_more_frames: bool = False
    """True where pages or frames follow, which are not read."""


def read_image(path: Path) -> UInt8[Tensor, "3 H W"]:
    """Decode an image file to RGB, turned as its EXIF orientation says; 16-bit grey is scaled to 8 bits.

    Transparency is dropped, and of several pages or frames the first is read.

    Raises InputError, which names the file, where it is missing, truncated, too large, no image, or of a kind of pixels
    whose range is not known.
    """
    with _naming(path):
        content = content_of(path)
    return _decode(path if content is None else io.BytesIO(content), name=str(path))


def decode_image(content: bytes, *, name: str) -> UInt8[Tensor, "3 H W"]:
    """Decode the content of an image file as `read_image` does; `name` begins the sentences of errors."""
    return _decode(io.BytesIO(content), name=name)


def _decode(source: Path | io.BytesIO, *, name: str) -> UInt8[Tensor, "3 H W"]:
    with _filtered_warnings(), _naming(name), Image.open(source) as image:
        # Pixels stay side by side as they were decoded: resizing takes a third of the time in that layout.
        return torch.from_numpy(np.array(to_rgb(image, name=name))).permute(2, 0, 1)


def to_rgb(image: Image.Image, *, name: str = "the image") -> Image.Image:
    """Return an image as 8-bit RGB, turned as its EXIF orientation says and without its transparency.

    Raises InputError, which begins with `name`, where the pixels are floats, or integers of more than 16 bits.
    """
    _refuse_unknown_range(image, name=name)
    image = _upright(image)  # first, as what is made from an array has no EXIF data
    if image.mode.startswith("I"):  # PIL would clip 16-bit values at 255
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours; on the direct way PIL warns of the transparency
    return image.convert("RGB")


def _refuse_unknown_range(image: Image.Image, *, name: str) -> None:
    if image.mode == "F":
        raise InputError(f"{name} has floating-point pixels, whose range is not known: convert it to 8 bits")
    # From PNG and PPM comes what is 16 bits wide, or scaled to that; else such pixels are signed or have 32 bits.
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise InputError(f"{name} has signed or 32-bit integer pixels, whose range is not known: convert it to 8 bits")


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose would also rewrite the EXIF data, and fail if they are broken.
    image.load()  # PIL turns a TIFF while loading it, and then forgets the orientation
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def read_headers(paths: Sequence[Path]) -> list[ImageHeader | InputError]:
    """Read the header of every file and look whether JPEG and PNG files reach their end; pixels are not decoded."""
    with _filtered_warnings():
        found = find_out(paths, _read_header, what="headers")
    return [each if isinstance(each, InputError) else _unpacked(each) for each in found]


def warn_of_frames(paths: Sequence[Path]) -> None:
    """Warn of images that have several pages or frames, as only the first of them is read."""
    several = [str(path) for path in paths if _opens_with_more_frames(path)]
    if several:
        what = f"{len(several):,} {'image' if len(several) == 1 else 'images'} with several pages or frames"
        names = ", ".join(several[:_NAMED]) + (", ..." if len(several) > _NAMED else "")
        warnings.warn(f"{what}, of which only the first was used: {names}", InputWarning, stacklevel=2)


class _naming:  # noqa: N801 - reads as a word in `with _naming(path)`
    """Turn every way in which PIL fails into an InputError that names the file."""

    def __init__(self, name: Path | str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError):
            return
        if isinstance(error, (Image.DecompressionBombWarning, Image.DecompressionBombError)):
            limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
            raise InputError(
                f"{self.name} is too large an image (over {limit} million pixels): scale it down"
            ) from None
        if isinstance(error, FileNotFoundError):
            raise InputError(f"the image {self.name} does not exist{_beside(Path(self.name))}") from None
        if isinstance(error, _UNREADABLE):
            raise InputError(f"{self.name} cannot be read as an image: {_reason(error, Path(self.name))}") from None


def _reason(error: BaseException, path: Path) -> str:
    if path.suffix.lower() in LACKING:
        return (
            f"this build of Pillow lacks {LACKING[path.suffix.lower()]}; install one that has it, or convert the image"
        )
    if isinstance(error, UnidentifiedImageError):
        return "its content is no image format known here; convert it to JPEG or PNG"
    return (getattr(error, "strerror", None) or " ".join(str(error).split())) or type(error).__name__


def _beside(path: Path) -> str:
    """Name a file that differs from a missing image in its ending alone, such as a HEIC photograph."""
    try:
        twins = sorted(file for file in path.parent.iterdir() if file.stem == path.stem and file.suffix not in _LABELS)
    except (OSError, ValueError):
        return ""
    return f"; beside it is {twins[0].name}, which condetr does not read: convert it" if twins else ""


class _FilteredWarnings:
    """Filters for PIL's warnings, which belong to the whole process: the first thread sets, the last removes them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._threads = 0
        self._kept = warnings.catch_warnings()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._threads == 0:
                self._kept = warnings.catch_warnings()
                self._kept.__enter__()
                warnings.simplefilter("ignore")  # oddities that PIL repairs itself, such as corrupt EXIF
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            self._threads += 1
        try:
            yield
        finally:
            with self._lock:
                self._threads -= 1
                if self._threads == 0:
                    self._kept.__exit__(None, None, None)


_filtered_warnings = _FilteredWarnings()


def _unpacked(fact: Fact) -> ImageHeader:
    (height, width), *flags = cast(list[Any], fact)
    return ImageHeader((height, width), *flags)


def _read_header(path: Path) -> list[Any] | InputError:
    try:
        with _naming(path), open_image(path) as file, Image.open(file) as image:
            pixels_start = file.tell() if image.format == "JPEG" else 0
            if not _reaches_end(file, image.format, start=pixels_start):
                return InputError(f"{path} is truncated: the end of the {image.format} data is missing")
            _refuse_unknown_range(image, name=str(path))
            width, height = _stored_wh(image)
            is_16_bit = _is_16_bit(image)  # before the next line, which for a PNG decodes it
            is_turned = _orientation(image) in (5, 6, 7, 8)
            header = ImageHeader(
                size_hw=(width, height) if is_turned else (height, width),
                is_turned=is_turned,
                is_16_bit=is_16_bit,
                has_more_frames=_has_more_frames(image),
            )
            return list(header)
    except StorageError:
        raise
    except InputError as error:
        return error


def _opens_with_more_frames(path: Path) -> bool:
    with _filtered_warnings(), _naming(path), open_image(path) as file, Image.open(file) as image:
        return _has_more_frames(image)
    return False


def _has_more_frames(image: Image.Image) -> bool:
    # Phones store a map of depth or of light behind the photo, as if that were a second one (MPO).
    try:
        return bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    except _UNREADABLE:
        return True  # what follows is broken, but is not read anyway


def _is_16_bit(image: Image.Image) -> bool:
    # A colour image has 8 bits in PIL, and only the order of bytes that its decoder is told shows that it had 16.
    return image.mode.startswith("I") or any(f";16{order}" in str(getattr(image, "tile", "")) for order in "BLN")


def _stored_wh(image: Image.Image) -> tuple[int, int]:
    """Return the size before turning, which PIL, for a TIFF that it has not loaded, gives after turning."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return image.size


def _orientation(image: Image.Image) -> int:
    try:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation
    except (SyntaxError, ValueError, TypeError, OSError, struct.error):
        return 1  # broken EXIF data


def _reaches_end(file: io.BufferedReader, image_format: str | None, *, start: int) -> bool:
    """Look for the end mark behind byte `start`; other bytes may follow it, as cameras append videos."""
    mark = _END_MARKS.get(image_format or "")
    if mark is None:
        return True
    size = file.seek(0, 2)
    for first in (max(start, size - _TAIL_BYTES), start):
        file.seek(first)
        if mark in file.read():
            return True
    return False
