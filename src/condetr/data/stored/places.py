"""The images that a folder holds in name alone: where their bytes are, and how to read them.

What reads a data set enters here the images of each folder; whoever opens an image asks here if it is no file.
"""

import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from condetr.errors import InputError
from condetr.storage.remote import is_remote, read_part

_BUFFER = {True: 2**16, False: 2**13}
"""Bytes that are read at once of what is remote, and of what is not."""
_CHECKSUM = 4  # bytes


class Stored(NamedTuple):
    """Where the bytes of an image are."""

    holder: str
    """A local file, or an address."""
    offset: int
    size: int
    stamp: str = ""
    """What the storage says about the version of the holder."""

    @property
    def key(self) -> str:
        """A name for these bytes, another one once they change."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:32]

    def read(self, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return the bytes, or some of them; raises InputError if they cannot be had."""
        first, count = self.offset + offset, self.size - offset if size is None else size
        if count == 0:
            return b""
        if is_remote(self.holder):
            return read_part(self.holder, offset=first, size=count)
        try:
            with Path(self.holder).open("rb") as file:
                file.seek(first)
                content = file.read(count)
        except OSError as error:
            raise InputError(f"{self.holder} cannot be read: {error.strerror}") from None
        if len(content) != count:
            raise InputError(f"{self.holder} has changed since it was looked through: run the command again")
        return content


@dataclass(frozen=True)
class Places:
    """The images below a folder that are no files there, by their paths below it."""

    images: Mapping[str, Stored]
    home: Path | None = None
    """Where whole images, and what was found out about them, are kept."""
    share: float = 0.0
    """The part of the images that is kept."""

    def content(self, name: str) -> bytes:
        """Return an image's bytes, and keep them if it is one of those to keep."""
        stored = self.images[name]
        # Which ones does not depend on the order of reading, so processes need not agree, nor count what is there.
        if self.home is None or zlib.crc32(name.encode()) >= self.share * 2**32:
            return stored.read()
        path = self.home / "images" / stored.key[:2] / stored.key
        kept = _kept(path)
        if kept is not None:
            return kept
        content = stored.read()
        with suppress(OSError):  # without room the image is read again next time
            _write(path, content)
        return content


_known: dict[Path, Places] = {}


def enter(folder: Path, places: Places) -> None:
    """Let the images of a folder be found from now on, in this process and in those that it forks."""
    _known[Path(os.path.abspath(folder))] = places  # noqa: PTH100 - links stay


def entered() -> Mapping[Path, Places]:
    """Return all that is known, for a process that was not forked."""
    return dict(_known)


def enter_all(places: Mapping[Path, Places]) -> None:
    """Enter what another process knows."""
    _known.update(places)


def stored_below(root: Path) -> dict[str, Stored]:
    """Return the images below a folder that are no files, by their paths below it."""
    here = Path(os.path.abspath(root))  # noqa: PTH100 - links stay
    found: dict[str, Stored] = {}
    for folder, places in _known.items():
        if folder.is_relative_to(here):
            before = folder.relative_to(here).as_posix()
            found |= {name if before == "." else f"{before}/{name}": each for name, each in places.images.items()}
        elif here.is_relative_to(folder):
            before = f"{here.relative_to(folder).as_posix()}/"
            inside = ((name, each) for name, each in places.images.items() if name.startswith(before))
            found |= {name.removeprefix(before): each for name, each in inside}
    return found


def stored_at(path: Path) -> Stored | None:
    """Return where the bytes of an image are; None if it is a file, or is nowhere."""
    found = _find(path)
    return None if found is None else found[0].images[found[1]]


def home_of(path: Path) -> Path:
    """Return where things about an image in a storage are kept."""
    found = _find(path)
    assert found is not None
    assert found[0].home is not None
    return found[0].home


def content_of(path: Path) -> bytes | None:
    """Return the bytes of an image that is no file; None if it is one, or is nowhere."""
    found = _find(path)
    return None if found is None else found[0].content(found[1])


def open_image(path: Path) -> io.BufferedReader:
    """Open an image for reading, of which no more is read than asked for; raises OSError if it is nowhere."""
    stored = stored_at(path)
    if stored is None:
        return path.open("rb")
    return io.BufferedReader(_Section(stored), _BUFFER[is_remote(stored.holder)])


def size_of(path: Path) -> int:
    """Return the number of bytes of an image; raises OSError if it is nowhere."""
    stored = stored_at(path)
    return path.stat().st_size if stored is None else stored.size


def _find(path: Path) -> tuple[Places, str] | None:
    if not _known or os.path.exists(path):  # noqa: PTH110 - a name that is too long does not exist, either
        return None
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - links stay
    for folder in whole.parents:
        places = _known.get(folder)
        if places is not None and (name := whole.relative_to(folder).as_posix()) in places.images:
            return places, name
    return None


class _Section(io.RawIOBase):
    """The bytes of a stored image as a file."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = max(0, offset + (0, self._position, self._stored.size)[whence])
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a writable buffer
        view = memoryview(buffer)
        content = self._read(len(view))
        view[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return self._read(self._stored.size)

    def _read(self, most: int) -> bytes:
        count = max(0, min(most, self._stored.size - self._position))
        content = self._stored.read(offset=self._position, size=count)
        self._position += count
        return content


def _kept(path: Path) -> bytes | None:
    """Return what `_write` wrote; None if it is not there, or not whole."""
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    content, checksum = whole[:-_CHECKSUM], whole[-_CHECKSUM:]
    return content if checksum == _checksum(content) else None


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM, "big")


def _write(path: Path, content: bytes) -> None:
    """Write a file under another name first, with a checksum, because it is not flushed to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content + _checksum(content))
        Path(draft).replace(path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise
