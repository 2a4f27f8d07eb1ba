"""CSV files with a row for every box, as TensorFlow's tutorials, RetinaNet, Open Images and Kaggle have them.

Columns are known by their names. Without a heading, rows are `path,x1,y1,x2,y2,class`, further columns aside; a row of
a path alone is an image without objects. Corners are taken as edges in pixels or, where all lie between 0 and 1,
relative to the image.
"""

import csv
import io
import json
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from condetr.data.files import is_utf16, read_bytes, read_text
from condetr.data.findings import Fault, Note, Reading, refused
from condetr.data.index import Index, folder_of, index_folder, is_image, name_of, shown_folder
from condetr.data.pairs import ALL, own_name, split_names, told_splits
from condetr.data.raw import RawBox, RawData, RawImage, Source
from condetr.data.resolve import Finder, Place, Resolver, role_of
from condetr.errors import InputError
from condetr.labels import Category, LabelMap

_COLUMNS = {
    "image": ("filename", "file_name", "image", "image_id", "imageid", "image_name", "path", "img_path", "file", "img"),
    "class": ("class", "label", "labelname", "class_name", "category", "category_name", "name"),
    "x1": ("xmin", "x1", "x_min", "left"),
    "y1": ("ymin", "y1", "y_min", "top"),
    "x2": ("xmax", "x2", "x_max", "right"),
    "y2": ("ymax", "y2", "y_max", "bottom"),
    "bbox": ("bbox",),
    "crowd": ("isgroupof", "iscrowd"),
    "score": ("confidence", "score"),
    "split": ("split", "subset", "set"),
    "width": ("width", "image_width"),
    "height": ("height", "image_height"),
}
_CORNERS = ("x1", "y1", "x2", "y2")
_HEADLESS = ("image", "x1", "y1", "x2", "y2", "class")
_LARGEST_COORDINATE = 1e9
_ONLY_CLASS = "object"
_MOST, _OVERHANG = 0.9, 2.0  # of the boxes lie within the image where they are fractions; the others overhang a little
_SOON_READ = 2**26  # bytes
_HEAD = 65536  # bytes that tell what a file holds


class _Row(NamedTuple):
    number: int
    """In the file, counted from 1 with the heading, as spreadsheets do."""
    values: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class _Data:
    resolver: Resolver
    files: Mapping[str, str]
    """The split of each file, below the index's root."""
    columns: Mapping[str, Sequence[str]]
    """The splits that a column of each file names; none where it has no such column."""
    left_out: Sequence[str] = ()


def find_tables(index: Index) -> Source | None:
    """Recognise CSV files with a row for every box; None where there are none."""
    files = [file for file in index.ending_in(".csv") if _is_of_boxes(index.path(file))]
    return _source(index, files) if files else None


def table_file(path: Path) -> Source:
    """Return the data set that a CSV file describes; its images may lie beside it or in folders beside its own."""
    if not _is_of_boxes(path):
        raise InputError(
            f"{path} has no columns of boxes: condetr reads filename, class, xmin, ymin, xmax and ymax, "
            "or path,x1,y1,x2,y2,class without a heading"
        )
    index = index_folder(path.parent)
    if not index.images and path.parent.name:
        index = index_folder(path.parent.parent)
    return _source(index, [path.relative_to(index.root).as_posix()])


def _source(index: Index, files: Sequence[str]) -> Source:
    resolver = Resolver(index)
    roles = {file: role_of(file.rpartition(".")[0]) for file in files}
    has_train = "train" in roles.values()
    rest = ALL if not any(roles.values()) else None if has_train else "train"
    named = split_names(own_name(file) if role_of(own_name(file)) else folder_of(file) for file in files)
    splits = {file: named[each] if each else rest for file, each in roles.items()}
    data = _Data(
        resolver=resolver,
        files={file: split for file, split in splits.items() if split is not None},
        columns={file: _splits_in(index.path(file)) for file, split in splits.items() if split is not None},
        left_out=[file for file, split in splits.items() if split is None],
    )
    heads = {file: _first_images(index.path(file)) for file in data.files}
    bases = {file: resolver.base(names, Place(folder_of(file), roles[file])) for file, names in heads.items()}
    folders = {base for base in bases.values() if base is not None}
    told = ", ".join(
        f"{file} with images in {shown_folder(bases[file] or '')}" if bases[file] is not None else file
        for file in data.files
    )
    names = tuple(dict.fromkeys(name for file, split in data.files.items() for name in data.columns[file] or (split,)))
    return Source(
        layout="csv",
        root=index.root,
        understood=f"CSV: {told}; {told_splits(names)}",
        splits=names,
        places={},
        image_folders=frozenset(index.path(folder).resolve() for folder in folders),
        num_images=sum(_count_images(index.path(file)) for file in data.files),
        read=partial(_read, data),
        files=tuple(index.path(file) for file in data.files),
    )


def _is_of_boxes(file: Path) -> bool:
    try:
        rows = list(_rows(file, most=_HEAD))
    except InputError:
        return False
    if any(_number(row.values.get("score", "1")) not in (0, 1) for row in rows):
        return False  # a detector scored them; Open Images has 1 for all
    return bool(rows) and "image" in rows[0].values


def _splits_in(file: Path) -> list[str]:
    """Return the splits that a column names, `train` for a row that names none."""
    if not any(row.values.get("split") for row in _rows(file, most=_HEAD)):
        return []
    return sorted({_split_of(row) for row in _rows(file)})


def _split_of(row: _Row) -> str:
    return row.values.get("split") or "train"


def _count_images(file: Path) -> int:
    """Return how many images a file names, 0 where it is too large to read twice."""
    if file.stat().st_size > _SOON_READ:
        return 0
    return len({row.values.get("image") for row in _rows(file)})


def _first_images(file: Path) -> list[str]:
    return list(dict.fromkeys(row.values["image"] for row in _rows(file, most=_HEAD)))[:200]


def _rows(file: Path, *, most: int | None = None) -> Iterator[_Row]:
    """Yield the rows of a file by known columns; none where it has no columns of boxes."""
    if most is None:
        text = read_text(file)
    else:
        head = read_bytes(file, most=most)
        text = head.decode("utf-16" if is_utf16(head) else "utf-8-sig", errors="replace").rpartition("\n")[0]
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        heading = next(lines, [])
        columns = _columns([word.strip().lower() for word in heading])
        if columns is None:
            if not _is_headless(heading):
                return
            columns = dict(enumerate(_HEADLESS))
            yield _row(1, heading, columns)
        for number, line in enumerate(lines, start=2):
            if line:
                yield _row(number, line, columns)
    except csv.Error as error:
        raise InputError(f"{file} is not a usable CSV file: {error}") from None


def _row(number: int, line: Sequence[str], columns: Mapping[int, str]) -> _Row:
    return _Row(number, {name: line[column].strip() for column, name in columns.items() if column < len(line)})


def _columns(heading: Sequence[str]) -> dict[int, str] | None:
    """Return what each column holds; None where it has no boxes."""
    found = {}
    for name, spelt in _COLUMNS.items():
        column = next((heading.index(word) for word in spelt if word in heading), None)
        if column is not None:
            found[column] = name
    known = set(found.values())
    is_of_boxes = "image" in known and (known >= set(_CORNERS) or "bbox" in known)
    return found if is_of_boxes else None


def _is_headless(line: Sequence[str]) -> bool:
    if len(line) < len(_HEADLESS) or not is_image(line[0].strip()):
        return False
    numbers = [word.strip() for word in line[1:5]]
    return not any(numbers) or all(math.isfinite(_number(word)) for word in numbers)


def _read(data: _Data, splits: Sequence[str]) -> Reading[RawData]:
    index = data.resolver.index
    for file in data.left_out:
        yield Note(Fault.NOT_READ, file)
    rows = yield from _whole_rows(data)
    everything = [row for some in rows.values() for row in some]
    if everything and not any("class" in row.values for row in everything):
        yield Note(Fault.UNNAMED_CLASS, f"all boxes are of one class, {_ONLY_CLASS!r}, as no column names it")
        for row in everything:
            row.values["class"] = _ONLY_CLASS
    names = sorted({row.values["class"] for row in everything if row.values.get("class")})
    if not names:
        yield refused(Fault.NOTHING, f"the CSV files in {index.root} hold no class")
    ids = {name: number for number, name in enumerate(names, start=1)}
    shown = _shown_names(index)
    categories = tuple(Category(number, shown.get(name, name)) for name, number in ids.items())
    label_map = LabelMap(categories, ids_are_counted=True)
    boxes = {}
    for file, some in rows.items():
        boxes[file] = yield from _boxes(some, file, ids)
    is_relative = _are_fractions([box.corners for some in boxes.values() for _, box in some])
    images: dict[str, list[RawImage]] = {split: [] for split in splits}
    for file, some in rows.items():
        for split in splits:
            mine = [row for row in some if split == (_split_of(row) if data.columns[file] else data.files[file])]
            numbers = {row.number for row in mine}
            its_boxes = [(name, box) for name, box in boxes[file] if box.number in numbers]
            images[split] += yield from _images(file, mine, its_boxes, data=data, is_relative=is_relative)
    for split, found in images.items():
        images[split] = yield from _joined(found)
    return RawData(label_map=label_map, images=images)


def _whole_rows(data: _Data) -> Reading[dict[str, list[_Row]]]:
    """Return the rows of each file that name an image."""
    whole = {}
    for file in data.files:
        rows = []
        try:
            for row in _rows(data.resolver.index.path(file)):
                if row.values.get("image"):
                    rows.append(row)
                else:
                    yield refused(Fault.FAULTY_ENTRY, f"{file}: row {row.number} names no image")
        except InputError as error:
            yield refused(Fault.FAULTY_FILE, error)
        else:
            whole[file] = rows
    return whole


def _shown_names(index: Index) -> dict[str, str]:
    """Return the names that Open Images' table gives for codes such as /m/01g317."""
    for file in index.ending_in(".csv"):
        if "class-descriptions" in name_of(file).lower():
            lines = csv.reader(io.StringIO(read_text(index.path(file)), newline=""))
            return {line[0]: line[1] for line in lines if len(line) > 1 and line[0].startswith("/")}
    return {}


def _images(
    file: str,
    rows: Sequence[_Row],
    boxes: Sequence[tuple[str, RawBox]],
    *,
    data: _Data,
    is_relative: bool,
) -> Reading[list[RawImage]]:
    first = {row.values["image"]: row for row in reversed(rows)}
    of_image: dict[str, list[RawBox]] = {row.values["image"]: [] for row in rows}
    for name, box in boxes:
        of_image[name].append(box)
    place = Place(folder_of(file), role_of(file.rpartition(".")[0]))
    finder = Finder(data.resolver, list(of_image), place, where=name_of(file))
    images = []
    for number, (name, some) in enumerate(of_image.items()):
        path = yield from finder.path(name)
        if path is not None:
            images.append(
                RawImage(
                    image_id=number,
                    path=path,
                    boxes=some,
                    files=(data.resolver.index.path(file),),
                    number=number,
                    size_hw=None if is_relative else _size_hw(first[name]),
                    is_relative=is_relative,
                )
            )
    return images


def _joined(images: Sequence[RawImage]) -> Reading[list[RawImage]]:
    """Put together what several files say about an image, and number the images."""
    by_path: dict[Path, RawImage] = {}
    for image in images:
        before = by_path.get(image.path)
        if before is not None:
            yield Note(Fault.JOINED, image.path.name)
            image = before._replace(boxes=[*before.boxes, *image.boxes], files=(*before.files, *image.files))
        by_path[image.path] = image
    return [image._replace(image_id=number, number=number) for number, image in enumerate(by_path.values())]


def _are_fractions(boxes: Sequence[tuple[float, float, float, float]]) -> bool:
    """Tell whether corners, over all files, are relative to their images: nearly all of them lie between 0 and 1."""
    within = sum(max(map(abs, corners)) <= 1 for corners in boxes)
    is_whole = all(corner.is_integer() for corners in boxes for corner in corners)
    largest = max((abs(corner) for corners in boxes for corner in corners), default=0)
    return bool(boxes) and not is_whole and within >= _MOST * len(boxes) and largest <= _OVERHANG


def _boxes(rows: Sequence[_Row], file: str, ids: Mapping[str, int]) -> Reading[list[tuple[str, RawBox]]]:
    """Return every box with the name of its image."""
    boxes = []
    for row in rows:
        place = f"row {row.number}"
        try:
            corners = _corners(row)
        except InputError as error:
            yield refused(Fault.FAULTY_ENTRY, f"{file}: {place} {error}")
            continue
        if corners is None:
            continue
        name = row.values.get("class", "")
        if not name:
            yield refused(Fault.FAULTY_ENTRY, f"{file}: {place} has a box without a class")
            continue
        is_crowd = row.values.get("crowd") == "1"
        if is_crowd:
            yield Note(Fault.CROWD, f"{file}: {place}")
        box = RawBox(corners, ids[name], place=place, number=row.number, is_crowd=is_crowd)
        boxes.append((row.values["image"], box))
    return boxes


def _corners(row: _Row) -> tuple[float, float, float, float] | None:
    """Return the corners that a row gives; None where it says that an image has no object."""
    if "bbox" in row.values:
        return _corners_of_list(row.values["bbox"])
    words = [row.values.get(name, "") for name in _CORNERS]
    if not any(words):
        return None
    numbers = [_number(word) for word in words]
    for name, word, number in zip(_CORNERS, words, numbers, strict=True):
        if not abs(number) <= _LARGEST_COORDINATE:  # nan is not
            raise InputError(f"has {name} {reprlib.repr(word)}, expected a finite number")
    x1, y1, x2, y2 = numbers
    return x1, y1, x2, y2


def _corners_of_list(word: str) -> tuple[float, float, float, float] | None:
    """Read Kaggle's `[x, y, width, height]`."""
    if not word:
        return None
    try:
        x, y, width, height = (float(number) for number in json.loads(word))
    except (ValueError, TypeError):
        raise InputError(f"has bbox {reprlib.repr(word)}, expected four numbers (x, y, width, height)") from None
    if not all(abs(number) <= _LARGEST_COORDINATE for number in (x, y, width, height)):
        raise InputError(f"has bbox {reprlib.repr(word)}, expected finite numbers")
    return x, y, x + width, y + height


def _size_hw(row: _Row) -> tuple[int, int] | None:
    height, width = (_number(row.values.get(name, "")) for name in ("height", "width"))
    return (int(height), int(width)) if 0 < height < 10**9 and 0 < width < 10**9 else None


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
