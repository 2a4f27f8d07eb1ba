"""Find the images that a user names: files, folders and patterns."""

import glob
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from condetr.data.files import files_below
from condetr.data.index import SUFFIXES
from condetr.errors import InputError, InputWarning
from condetr.words import counted

_BESIDE_IMAGES = frozenset({".txt", ".json", ".xml", ".yaml", ".yml", ".csv", ".md", ".cache", ".ini", ".db"})
"""Suffixes of labels, lists and similar files, which are clearly no images."""
_NAMED = 3  # the number of files that a message names


def find_images(sources: Sequence[str]) -> list[Path]:
    """Return the image files behind files, folders and patterns such as `a/*.jpg`.

    Folders are searched with all their subfolders, linked ones too; names that begin with a dot are skipped. The order
    is that of `sources`, sorted within each; a file that is named twice is returned once. A broken link is returned, so
    that reading it reports the error. Other files of a folder or pattern are left out with an InputWarning, except for
    labels and lists, which are left out silently.

    Raises InputError for a source that yields no image.
    """
    return list(dict.fromkeys(path for source in sources for path in _images_of(source)))


def _images_of(source: str) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        files = list(files_below(path))
        missing = f"the folder {source} holds no image ({', '.join(sorted(SUFFIXES))})"
    else:
        files = [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207 - absolute patterns
        missing = f"{source} is neither an image file nor a folder, nor a pattern that some image matches"
    found = sorted(file for file in files if file.suffix.lower() in SUFFIXES and not file.is_dir())
    left_out = _left_out(files)
    if not found:
        raise InputError(
            f"{missing}{left_out and f', but {left_out}'}; give an image file, a folder or a quoted pattern"
        )
    if left_out:
        warnings.warn(
            f"left out of {source}: {left_out}; convert what you need to JPEG or PNG", InputWarning, stacklevel=4
        )
    return found


def _left_out(files: Iterable[Path]) -> str:
    """Return a text that counts the files that are neither images nor labels, and names the first ones."""
    others = sorted(
        file for file in files if file.suffix.lower() not in SUFFIXES | _BESIDE_IMAGES and not file.is_dir()
    )
    if not others:
        return ""
    names = ", ".join(file.name for file in others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
    return f"{counted(len(others), 'file')} that cannot be read as images ({names})"
