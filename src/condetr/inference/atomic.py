"""Files and folders that are either wholly there or not there: written beside their place, then renamed into it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from condetr.errors import InputError


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write to; it takes the place of `path` when the block ends without an error."""
    draft = _sibling(path, "draft")
    try:
        yield draft
        _flush(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary sibling to fill; it takes the place of `path` when the block ends without an error."""
    draft = _sibling(path, "draft")
    draft.mkdir(parents=True)
    try:
        yield draft
        for file in draft.rglob("*"):
            if file.is_file():
                _flush(file)
        _take_place(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def require_free(folder: Path, *, overwrite: bool) -> None:
    """Raise InputError if `folder` is a file, or holds something already that was not meant to be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, but the results need a folder; name another one")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"the folder {folder} is not empty; name another one with --out, or say --overwrite")


def _take_place(draft: Path, path: Path) -> None:
    """Rename one folder to another's name; a folder, unlike a file, cannot be replaced in one step."""
    if not path.exists():
        draft.rename(path)
        return
    old = path.rename(_sibling(path, "old"))
    try:
        draft.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sibling(path: Path, role: str) -> Path:
    # The process id keeps two writers of one place apart.
    return path.with_name(f".{path.name}.{role}-{os.getpid()}{path.suffix}")


def _flush(file: Path) -> None:
    """Make the disk, not only the operating system, hold the file before it gets its name."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
