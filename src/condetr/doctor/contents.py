"""What only the content of image files tells: whether it can be decoded, shows anything, and is there only once."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from condetr.data.dataset import Finding
from condetr.data.images import ImageHeader, decode_image, read_image
from condetr.data.stored.places import content_of
from condetr.doctor.looks import Look, look_at, lookalikes
from condetr.doctor.quick import EXAMPLES
from condetr.errors import InputError
from condetr.optimize.machine import usable_cores
from condetr.storage.remote import StorageError
from condetr.words import counted

Severity = Literal["error", "warning", "info"]

_FLAT = 16  # of 256 levels between the darkest and the brightest pixel
_SLIVER = 64  # of 256 levels; 14-bit data in 16 bits have as many


class Content(NamedTuple):
    """An image file from its first byte to its last."""

    digest: str
    """The same for files of the same bytes."""
    broken: str | None
    """Why the pixels cannot be decoded."""
    look: Look | None
    """How the pixels look, if they can be decoded."""


def read_contents(paths: Sequence[Path], *, progress: Callable[[int, int], None]) -> dict[Path, Content]:
    """Hash and decode every file, several at a time; `progress` is called with the files done and in all."""
    contents = {}
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for path, content in zip(paths, pool.map(_read, paths), strict=True):
            contents[path] = content
            progress(len(contents), len(paths))
    return contents


class Pair(NamedTuple):
    """An image that is the same, or looks the same, as one that stands before it."""

    split: str
    path: Path
    home: str
    """The split in which the other one stands."""
    other: Path

    def __str__(self) -> str:
        home = "" if self.split == self.home else f"{self.home}: "
        return f"{self.split}: {self.path.name} is {home}{self.other.name}"


def content_findings(
    images: Mapping[str, Sequence[Path]],
    contents: Mapping[Path, Content],
    *,
    headers: Mapping[Path, ImageHeader],
    similar: Sequence[Pair],
) -> Iterator[Finding]:
    """Yield broken images, those without anything to see, and images that stand twice; `images` by split."""
    broken = [content.broken for content in contents.values() if content.broken]
    yield from _about_images("error", broken, what="whose pixels cannot be decoded")
    yield from _without_contrast(contents, headers)
    same = list(_same_images(images, contents))
    yield from _about_pairs(same, how="the same, byte for byte,", within_a_split="warning")
    yield from _about_pairs(similar, how="looking the same", within_a_split="info")


def similar_images(images: Mapping[str, Sequence[Path]], contents: Mapping[Path, Content]) -> Iterator[Pair]:
    """Yield images that look the same although their bytes differ; flat ones, which all look the same, are left out."""
    looks = {path: content.look for path, content in contents.items() if content.look and content.look.spread >= _FLAT}
    places = [(split, path) for split, paths in images.items() for path in paths if path in looks]
    found = lookalikes(
        np.array([looks[path].hash_words for _, path in places], dtype=np.uint64).reshape(-1, 4),
        splits=_numbered([split for split, _ in places]),
        contents=_numbered([contents[path].digest for _, path in places]),
    )
    for later, earlier in found:
        yield Pair(*places[later], *places[earlier])


def shared_with(
    mine: Sequence[Path], others: Sequence[Sequence[Path]], contents: Mapping[Path, Content]
) -> frozenset[Path]:
    """Return those of my images whose content others have, too."""
    theirs = {contents[path].digest for paths in others for path in paths}
    return frozenset(path for path in mine if contents[path].digest in theirs)


def _same_images(images: Mapping[str, Sequence[Path]], contents: Mapping[Path, Content]) -> Iterator[Pair]:
    first: dict[str, tuple[str, Path]] = {}
    for split, paths in images.items():
        for path in paths:
            digest = contents[path].digest
            if digest in first and first[digest] != (split, path):  # a file may be listed twice
                yield Pair(split, path, *first[digest])
            first.setdefault(digest, (split, path))


def _numbered(names: Sequence[str]) -> Int[np.ndarray, " N"]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def _without_contrast(contents: Mapping[Path, Content], headers: Mapping[Path, ImageHeader]) -> Iterator[Finding]:
    spreads = {path: content.look.spread for path, content in contents.items() if content.look is not None}
    slivers = [
        f"{path.name}: {spread + 1} of 256 levels"
        for path, spread in spreads.items()
        if headers[path].is_16_bit and spread < _SLIVER
    ]
    what = "of 16 bits whose values use a sliver of 0 to 65535, so that nearly one colour is left: scale them to 8 bits"
    yield from _about_images("warning", slivers, what=what)
    flat = [path.name for path, spread in spreads.items() if not headers[path].is_16_bit and spread < _FLAT]
    yield from _about_images("warning", flat, what="of nearly one flat colour, in which nothing can be found")


def _read(path: Path) -> Content:
    digest = str(path)
    try:
        content = content_of(path)
        with path.open("rb") if content is None else io.BytesIO(content) as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()
        look = look_at(read_image(path) if content is None else decode_image(content, name=str(path)))
    except StorageError:
        raise
    except OSError as error:
        return Content(digest, broken=f"cannot read {path}: {error.strerror}", look=None)
    except InputError as error:
        return Content(digest, broken=str(error), look=None)
    return Content(digest, broken=None, look=look)


def _about_pairs(pairs: Sequence[Pair], *, how: str, within_a_split: Severity) -> Iterator[Finding]:
    twice = [str(pair) for pair in pairs if pair.split == pair.home]
    yield from _about_images(within_a_split, twice, what=f"{how} as another one of the split")
    shared = [str(pair) for pair in pairs if pair.split != pair.home]
    yield from _about_images("warning", shared, what=f"{how} as one of another split, which flatters every measurement")


def _about_images(severity: Severity, places: Sequence[str], *, what: str) -> Iterator[Finding]:
    if places:
        yield Finding(
            severity=severity,
            what=f"{counted(len(places), 'image')} {what}",
            count=len(places),
            examples=tuple(places[:EXAMPLES]),
        )
