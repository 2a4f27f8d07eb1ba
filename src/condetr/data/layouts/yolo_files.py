"""YOLO's files: which images a folder or list names, and where the labels of an image are."""

import os
from pathlib import Path

from condetr.data.endings import SUFFIXES
from condetr.data.files import absolute, files_below, is_file, read_bytes, read_lines
from condetr.data.findings import FindingCounter
from condetr.data.index import Index, index_folder
from condetr.data.layouts.yolo_labels import is_label_line
from condetr.data.resolve import Finder, Place, Resolver
from condetr.errors import InputError


def images_below(folder: Path) -> list[Path]:
    """Return the image files of a folder and its subfolders, linked ones too, hidden ones not."""
    return sorted(file for file in files_below(absolute(folder)) if file.suffix.lower() in SUFFIXES)


def listed_images(file: Path, root: Path, *, counter: FindingCounter) -> list[tuple[str, Path]]:
    """Return the lines of a list with their images; entries are relative to the data folder, the list or any folder."""
    index = index_folder(absolute(root))
    relative = os.path.relpath(file.parent.absolute(), index.root).replace(os.sep, "/")
    place = Place("" if relative == "." or relative.startswith("..") else relative, None)
    names = [line for line in _list_lines(file) if line]
    finder = Finder(Resolver(index), names, place, where=file.name, counter=counter)
    found = ((line, _direct(line, file, index) or finder.path(line)) for line in names)
    return [(line, path) for line, path in found if path is not None]


def label_file(image: Path, root: Path) -> Path:
    """Swap the last folder `images` of the path for `labels`."""
    base = absolute(root).parent
    parts = list(image.relative_to(base).parts) if image.is_relative_to(base) else list(image.parts)
    positions = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if positions:
        parts[positions[-1]] = "labels"
    return (base.joinpath(*parts)).with_suffix(".txt")


def holds_a_box(file: Path) -> bool:
    """Tell labels from notes and lists, which may lie among them."""
    return any(map(is_label_line, lines_of(file)))


def lines_of(file: Path) -> list[str]:
    """Return the lines of a text file that are not empty; none where it is no text."""
    try:
        return [line for line in read_lines(file) if line]
    except InputError:
        return []


def _direct(line: str, file: Path, index: Index) -> Path | None:
    """Return what a line means exactly: below the data folder or, beginning with `./`, below the list's."""
    base = file.parent.absolute() if line.startswith("./") else index.root
    path = Path(os.path.normpath(base / line.replace("\\", "/")))
    return path if path.is_relative_to(index.root) and is_file(path) else None


def _list_lines(file: Path) -> list[str]:
    """Return the lines of a list; folders of other machines may be in other encodings, their last parts rarely are."""
    try:
        return read_lines(file)
    except InputError:
        return [line.strip() for line in read_bytes(file).decode("latin-1").splitlines()]
