"""Files that annotations name, and their text, with InputError for everything that can go wrong."""

import codecs
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from condetr.data.index import index_folder
from condetr.errors import InputError

_OTHER_FILES = (
    (b"PK\x03\x04", "a ZIP archive: unpack it"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"\x89PNG", "a PNG image: give the annotations instead"),
    (b"\xff\xd8\xff", "a JPEG image: give the annotations instead"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself with `git lfs pull`"),
)
"""First bytes of files that are not what their names say."""


def absolute(path: Path) -> Path:
    """Return a path from the root on, without following links."""
    return Path(os.path.normpath(path.absolute()))


def is_file(path: Path) -> bool:
    """Tell whether a path leads to a file; one that no file can have, say for its length, does not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def files_below(folder: Path, *, pass_over: Callable[[InputError], object] | None = None) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, linked ones too; see `index_folder` for those passed over."""
    index = index_folder(folder, pass_over=pass_over)
    yield from (index.path(file) for file in index.files)


def read_bytes(file: Path, *, most: int = -1) -> bytes:
    """Return a file's content, or its first bytes."""
    try:
        with file.open("rb") as stream:
            return stream.read(most)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None


def read_text(file: Path) -> str:
    """Return the content of a text file in UTF-8 or, where its first bytes say so, in UTF-16."""
    content = read_bytes(file)
    try:
        return content.decode("utf-16" if is_utf16(content) else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{file} is not a text file in UTF-8: {known_kind(content) or 'save it so'}") from None


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file without surrounding blanks; empty ones stay, so that positions count."""
    return [line.strip() for line in read_text(file).splitlines()]


def is_utf16(content: bytes) -> bool:
    """Tell whether a file begins as text in UTF-16 does, which Windows tools write."""
    return content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def known_kind(content: bytes) -> str | None:
    """Say what bytes are that should be text, and what to do; None where they are nothing known."""
    return next((f"it is {kind}" for begin, kind in _OTHER_FILES if content.startswith(begin)), None)
