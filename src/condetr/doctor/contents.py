"""What only the content of image files tells: whether all of it can be decoded, and which files are the same."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from condetr.data.dataset import Finding
from condetr.data.images import read_image
from condetr.doctor.machine import usable_cores
from condetr.doctor.quick import EXAMPLES
from condetr.errors import InputError


class Content(NamedTuple):
    """An image file from its first byte to its last."""

    digest: str
    """The same for files of the same bytes."""
    broken: str | None
    """Why the pixels cannot be decoded."""


def read_contents(paths: Sequence[Path], *, progress: Callable[[int, int], None]) -> dict[Path, Content]:
    """Hash and decode every file, several at a time; `progress` is called with the files done and in all."""
    contents = {}
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        for path, content in zip(paths, pool.map(_read, paths), strict=True):
            contents[path] = content
            progress(len(contents), len(paths))
    return contents


def content_findings(images: Mapping[str, Sequence[Path]], contents: Mapping[Path, Content]) -> Iterator[Finding]:
    """Yield broken images, the same image twice in a split, and the same image in two splits; `images` by split."""
    broken = [content.broken for content in contents.values() if content.broken]
    yield from _about_images("error", broken, what="whose pixels cannot be decoded")
    pairs = list(_same_images(images, contents))
    twice = [f"{split}: {path.name} is {other.name}" for split, path, home, other in pairs if split == home]
    yield from _about_images("warning", twice, what="the same, byte for byte, as another one of the split")
    shared = [f"{split}: {path.name} is {home}: {other.name}" for split, path, home, other in pairs if split != home]
    what = "the same, byte for byte, as one of another split, which flatters every measurement"
    yield from _about_images("warning", shared, what=what)


def shared_with(
    mine: Sequence[Path], others: Sequence[Sequence[Path]], contents: Mapping[Path, Content]
) -> frozenset[Path]:
    """Return those of my images whose content others have, too."""
    theirs = {contents[path].digest for paths in others for path in paths}
    return frozenset(path for path in mine if contents[path].digest in theirs)


class _Pair(NamedTuple):
    split: str
    path: Path
    home: str
    """The split in which the same image stands first."""
    other: Path


def _same_images(images: Mapping[str, Sequence[Path]], contents: Mapping[Path, Content]) -> Iterator[_Pair]:
    first: dict[str, tuple[str, Path]] = {}
    for split, paths in images.items():
        for path in paths:
            digest = contents[path].digest
            if digest in first:
                yield _Pair(split, path, *first[digest])
            first.setdefault(digest, (split, path))


def _read(path: Path) -> Content:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()
        read_image(path)
    except OSError as error:
        return Content(digest=str(path), broken=f"cannot read {path}: {error.strerror}")
    except InputError as error:
        return Content(digest, broken=str(error))
    return Content(digest, broken=None)


def _about_images(severity: Literal["error", "warning"], places: Sequence[str], *, what: str) -> Iterator[Finding]:
    if places:
        yield Finding(
            severity=severity,
            what=f"{len(places):,} {'image' if len(places) == 1 else 'images'} {what}",
            count=len(places),
            examples=tuple(places[:EXAMPLES]),
        )
