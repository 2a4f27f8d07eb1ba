"""Files that annotations name, and their text, with InputError for everything that can go wrong."""

import os
from collections import deque
from collections.abc import Iterator
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


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, linked ones too.

    What is hidden by a dot, such as `._1.jpg` of macOS and `.ipynb_checkpoints`, is left out. A folder that several links
    lead to, maybe in a circle, is searched once, under its own name where that is below.
    """
    folders, seen = deque([folder]), set()
    while folders:
        here = folders.popleft()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        for entry, is_folder in _entries(here):
            if not is_folder:
                yield Path(entry.path)
            elif entry.is_symlink():
                folders.append(Path(entry.path))
            else:
                folders.appendleft(Path(entry.path))


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


def _entries(folder: Path) -> list[tuple[os.DirEntry[str], bool]]:
    """Return what is in a folder and not hidden, and whether each is a folder itself."""
    try:
        with os.scandir(folder) as found:  # tells folders from files without asking the disk for each
            entries = sorted(found, key=lambda entry: entry.name)
        return [(entry, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from None
