"""Files that annotations name, and their text, with InputError for everything that can go wrong."""

import os
from pathlib import Path

from condetr.errors import InputError


def path_inside(root: Path, name: str) -> Path:
    """Join a file name from annotations to a folder; raise InputError where it leads out of the folder.

    Links inside the folder may point anywhere, as people link image folders from elsewhere.
    """
    root = Path(os.path.normpath(root.absolute()))
    relative = os.path.normpath(name.replace("\\", "/"))
    path = Path(os.path.normpath(root / relative))
    # A name that leaves and comes back, ../images/1.jpg in a folder images, would depend on the folder's name.
    if not path.is_relative_to(root) or relative.startswith("..") or "\0" in name:
        raise InputError(f"the file name {name!r} leads out of the data folder {root}: file names must stay inside it")
    return path


def is_file(path: Path) -> bool:
    """Tell whether a path leads to a file; one that no file can have, say for its length, does not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_bytes(file: Path) -> bytes:
    """Return a file's content."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file without surrounding blanks; empty ones stay, so that positions count."""
    try:
        return [line.strip() for line in read_bytes(file).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise InputError(f"{file} is not a text file in UTF-8") from None
