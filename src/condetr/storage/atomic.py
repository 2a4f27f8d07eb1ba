"""Atomic writes of files and folders: they are written under a temporary name, then renamed."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from condetr.errors import InputError, RunError

DRAFT, OLD = "draft", "old"
ON_WINDOWS = os.name == "nt"


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write to; it takes the place of `path` when the block ends without an error.

    Raises RunError if the disk does not take it, for instance because it is full; `path` is then as it was.
    """
    draft = _sibling(path, DRAFT)
    try:
        with _telling_what_is_kept(path):
            yield draft
            _flush(draft)
            draft.replace(path)
            _flush(path.parent)
    finally:
        with suppress(OSError):  # the draft's name is too long, which writing to it has said
            draft.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary sibling to fill; it takes the place of `path` when the block ends without an error.

    Raises RunError if the disk does not take it, for instance because it is full; `path` is then as it was.
    """
    draft = _sibling(path, DRAFT)
    try:
        with _telling_what_is_kept(path):
            draft.mkdir(parents=True)
            yield draft
            for part in (*draft.rglob("*"), draft):
                _flush(part)
            _take_place(draft, path)
            _flush(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    r"""Write a text in UTF-8, with escapes such as `\udce4` for the bytes of file names that are not UTF-8.

    In JSON, these escapes are read back as the same file name.
    """
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON that is also readable for people."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def tidy(folder: Path) -> None:
    """Remove the drafts that a killed process left in `folder`, and complete an unfinished replacement of a folder.

    No other process may be writing there.
    """
    for left in sorted(folder.glob(f".*.{OLD}-*")):
        place = folder / left.name[1:].rpartition(f".{OLD}-")[0]
        if not place.exists():
            left.rename(place)
    for left in (*folder.glob(f".*.{OLD}-*"), *folder.glob(f".*.{DRAFT}-*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def require_free(folder: Path, *, overwrite: bool | None) -> None:
    """Raise InputError if `folder`, or a part of its path, is a file, or if it holds files that may not be replaced.

    `overwrite` is None if there is no option to overwrite.
    """
    try:
        file = next((part for part in (folder, *folder.parents) if part.exists() and not part.is_dir()), None)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; name another one") from None
    if file is not None:
        raise InputError(f"{file} is a file, but the results need a folder; name another one")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        cure = "name another one" if overwrite is None else "name another one with --out, or add --overwrite"
        raise InputError(f"the folder {folder} is not empty; {cure}")


def _take_place(draft: Path, path: Path) -> None:
    """Rename one folder to another's name; a folder, unlike a file, cannot be replaced in one step."""
    if not path.exists():
        draft.rename(path)
        return
    old = path.rename(_sibling(path, OLD))
    try:
        draft.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sibling(path: Path, role: str) -> Path:
    # The process id gives two writers of one file different names.
    return path.with_name(f".{path.name}.{role}-{os.getpid()}{path.suffix}")


def _flush(path: Path) -> None:
    """Flush a file or the names in a folder to the disk.

    Windows supports this only for files that are open for writing. A link's target is not flushed.
    """
    if path.is_symlink() or (ON_WINDOWS and path.is_dir()):
        return
    descriptor = os.open(path, os.O_RDWR if ON_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _telling_what_is_kept(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kept = "the previous content is unchanged" if path.exists() else "nothing was written there"
        raise RunError(f"cannot write {path}: {error.strerror or error}; {kept}") from error
