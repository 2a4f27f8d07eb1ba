"""What a tar file holds, and where in it."""

import os
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

from condetr.data.stored.places import Places, Stored, enter
from condetr.errors import InputError

_BLOCK = 512


class Span(NamedTuple):
    """The place of a member's bytes in its tar file."""

    offset: int
    size: int


def enter_tars(folder: Path, names: Sequence[str], *, wanted: Callable[[str], bool]) -> None:
    """Let what is wanted of the tar files in a folder be found as if it had been unpacked there."""
    paths = [folder / name for name in names]
    enter(folder, Places(merged(_members(path, _version(path), wanted) for path in paths)))


def merged(parts: Iterable[Mapping[str, Stored]]) -> dict[str, Stored]:
    """Put the members of several tar files together; raises InputError if two hold one of the same path."""
    found: dict[str, Stored] = {}
    for part in parts:
        for name in found.keys() & part.keys():
            raise InputError(
                f"{found[name].holder} and {part[name].holder} both hold {name}: put the tar files of each split into "
                "a folder of its own"
            )
        found |= part
    return found


def spans_in_tar(file: IO[bytes], *, name: str, wanted: Callable[[str], bool]) -> dict[str, Span]:
    """Return where files are in an uncompressed tar, by their paths there; a later one replaces one of the same path.

    Of what is wanted by its path, hidden files and those that would lead out are left out. Only headers are read.
    Raises InputError, which begins with `name`, if the file is no such tar or is damaged.
    """
    found: dict[str, Span] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                path = os.path.normpath(member.name)
                if member.isreg() and not _is_hidden(path) and wanted(path):
                    found[path] = Span(member.offset_data, member.size)
            end = tar.offset
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        cure = "compressed ones must be unpacked, or packed again without compression"
        raise InputError(f"{name} cannot be read as a tar file ({error}): {cure}") from None
    file.seek(end)
    if file.read(_BLOCK).strip(b"\0"):  # tarfile takes damage behind the first member for the end
        raise InputError(f"{name} is damaged after {len(found):,} images: pack or copy it again")
    return found


@cache
def _members(path: Path, version: tuple[int, int], wanted: Callable[[str], bool]) -> Mapping[str, Stored]:
    """Look a tar file through, once in each version of it."""
    with path.open("rb") as file:
        spans = spans_in_tar(file, name=str(path), wanted=wanted)
    return {name: Stored(str(path.absolute()), span.offset, span.size) for name, span in spans.items()}


def _version(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return about.st_size, about.st_mtime_ns


def _is_hidden(path: str) -> bool:
    """Tell whether a path is hidden by a dot, as `._1.jpg` of macOS is, or leads out of the folder."""
    return path.startswith("/") or any(part.startswith(".") for part in path.split("/"))
