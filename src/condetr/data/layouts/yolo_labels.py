"""The lines of YOLO's label files.

A line holds the class number and the box as centre, width and height relative to the image. A line with more
coordinates is a polygon, taken as its bounding box, unless the data have keypoints: then they follow the box, and are
passed over.
"""

import math
import os
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from condetr.data.files import absolute, files_below, is_file, read_bytes, read_lines
from condetr.data.findings import Fault, Note, Reading, refused
from condetr.data.index import SUFFIXES, Index, index_folder
from condetr.data.raw import RawBox
from condetr.data.resolve import Finder, Place, Resolver
from condetr.errors import InputError

_LARGEST_FRACTION = 2.0  # coordinates beyond this are pixels, not fractions that overhang
_LARGEST_POINT = 1.1  # of a polygon; keypoints carry a visibility of 2, and track ids count on
_TRACKED = 7  # words of `class x y w h confidence id`, and of a triangle


@dataclass(frozen=True, kw_only=True)
class LineFormat:
    """What the lines of a data set may hold."""

    class_ids: Collection[int] | None
    """None where any number may be a class."""
    num_keypoint_numbers: int = 0
    """How many numbers may follow the box in a line."""
    has_polygons: bool = True
    """True where longer lines are there, so that seven numbers are a triangle."""


def read_boxes(lines: Sequence[str], file: Path, line_format: LineFormat) -> Reading[list[RawBox]]:
    """Return the boxes of a label file; faulty lines are refused."""
    boxes = []
    for number, line in enumerate(lines):
        try:
            boxes += [_read_box(line, line_format, number=number, file=file)] if line else []
        except InputError as error:
            yield refused(Fault.FAULTY_ENTRY, error)
            continue
        if len(line.split()) > 5 and not line_format.num_keypoint_numbers:
            yield Note(Fault.POLYGON, f"{file.name}: line {number + 1}")
    return boxes


def is_label_line(line: str) -> bool:
    """Tell a line of a label file from a line of a list or of notes."""
    words = line.split()
    numbers = [_number(word) for word in words]
    if len(words) < 5 or not all(map(math.isfinite, numbers)) or not numbers[0].is_integer():
        return False
    return max(map(abs, numbers[1:5])) <= _LARGEST_FRACTION


def holds_polygons(files: Mapping[Path, Sequence[str]]) -> bool:
    """Tell whether any line is a polygon of more than three points."""
    return any(len(line.split()) > _TRACKED for lines in files.values() for line in lines)


def class_ids(files: Mapping[Path, Sequence[str]]) -> list[int]:
    """Return the class numbers that stand before boxes."""
    return sorted({int(_number(line.split()[0])) for lines in files.values() for line in lines if is_label_line(line)})


def _read_box(line: str, line_format: LineFormat, *, number: int, file: Path) -> RawBox:
    place = f"line {number + 1}"
    words = line.split()
    numbers, found = [_number(word) for word in words], reprlib.repr(line)
    keypoints = line_format.num_keypoint_numbers
    is_box = len(words) in (5, 5 + keypoints)
    is_polygon = not keypoints and len(words) > 6 and len(words) % 2 == 1
    if not (is_box or is_polygon) or not all(map(math.isfinite, numbers)):
        more = f", alone or before {keypoints} numbers of keypoints" if keypoints else ""
        raise InputError(f"{file}: {place} must hold a class number and four finite numbers{more}, found {found}")
    coordinates = numbers[1:5] if is_box else numbers[1:]
    if is_box and max(map(abs, coordinates)) > _LARGEST_FRACTION:
        raise InputError(f"{file}: {place} must be relative to the image, from 0 to 1, found {found}")
    if not numbers[0].is_integer() or (line_format.class_ids is not None and numbers[0] not in line_format.class_ids):
        raise InputError(f"{file}: {place} has class {words[0][:20]}, which is not among the data's names")
    if is_polygon:
        _require_polygon(words, numbers[1:], line_format, where=f"{file}: {place}", found=found)
    convert: Callable[[Sequence[float]], tuple[float, float, float, float]] = _corners if is_box else _hull
    return RawBox(corners=convert(coordinates), dataset_id=int(numbers[0]), place=place, number=number)


def _require_polygon(
    words: Sequence[str], coordinates: Sequence[float], line_format: LineFormat, *, where: str, found: str
) -> None:
    """Refuse what is no polygon although it has the numbers of one."""
    if max(map(abs, coordinates)) > _LARGEST_POINT:
        raise InputError(
            f"{where} has {len(coordinates)} numbers behind the class, some above 1, so it is no polygon, found "
            f"{found}: if they are keypoints, say so by kpt_shape in the YAML file; otherwise keep class, x, y, width "
            "and height alone"
        )
    if len(words) == _TRACKED and words[-1].lstrip("-").isdecimal() and not line_format.has_polygons:
        raise InputError(
            f"{where} may be a triangle, or a box with its confidence and a track id, found {found}: keep class, x, y, "
            "width and height alone"
        )


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _corners(cxcywh: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = cxcywh
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _hull(polygon: Sequence[float]) -> tuple[float, float, float, float]:
    return min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])


def images_below(folder: Path) -> list[Path]:
    """Return the image files of a folder and its subfolders, linked ones too, hidden ones not."""
    return sorted(file for file in files_below(absolute(folder)) if file.suffix.lower() in SUFFIXES)


def listed_images(file: Path, root: Path) -> Reading[list[tuple[str, Path]]]:
    """Return the lines of a list with their images; entries are relative to the data folder, the list or any folder."""
    index = index_folder(absolute(root))
    relative = os.path.relpath(file.parent.absolute(), index.root).replace(os.sep, "/")
    place = Place("" if relative == "." or relative.startswith("..") else relative, None)
    names = [line for line in _list_lines(file) if line]
    finder = Finder(Resolver(index), names, place, where=file.name)
    found = []
    for line in names:
        path = _direct(line, file, index) or (yield from finder.path(line))
        if path is not None:
            found.append((line, path))
    return found


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
