"""YOLO: a text file for every image, a line for every box, and class names in a YAML file or `classes.txt`.

A line holds the class number and the box as centre, width and height relative to the image. A line with more
coordinates is a polygon, taken as its bounding box, unless the YAML file has a `kpt_shape`: then keypoints follow the
box, and are passed over. As in Ultralytics' tools, the labels of `images/a/1.jpg` are in
`labels/a/1.txt`, or beside the image where its path has no folder `images`, and no file means no box.
"""

import math
import os
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pydantic

from condetr.config import read_yaml
from condetr.data.files import files_below, is_file, path_inside, read_bytes, read_lines
from condetr.data.findings import Fault, FindingCounter
from condetr.data.images import SUFFIXES
from condetr.data.records import RawBox, RawData, RawImage, Source
from condetr.data.splits import role
from condetr.errors import InputError
from condetr.labels import Category, LabelMap

_YAML = (".yaml", ".yml")
_USUAL_NAMES = ("data", "dataset")
_SPLIT_KEYS = ("train", "val", "test")
_SPLIT_FOLDERS = ("images/{}", "labels/{}"), ("{}/images", "{}/labels")
_ROLES = ("train", "val", "test", "trainval")
_SPLIT_WORDS = ("train", "val", "test", "dev")
_LARGEST_FRACTION = 2.0  # coordinates beyond this are pixels, not fractions that overhang
_Name = Annotated[str, pydantic.Field(coerce_numbers_to_str=True)]


@dataclass(frozen=True, kw_only=True)
class _DataFile:
    names: list[_Name] | dict[int, _Name]
    path: str | None = None
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    test: str | list[str] | None = None
    kpt_shape: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None


class _LineFormat(NamedTuple):
    label_map: LabelMap
    num_keypoint_numbers: int


class _Splits(NamedTuple):
    places: Mapping[str, Sequence[Path]]
    missing: Mapping[str, str]
    """What is wrong with splits that cannot be read, and may be left alone."""
    left_out: Sequence[Path] = ()
    """Folders with images and labels that are no split."""


@dataclass(frozen=True, kw_only=True)
class _Data:
    root: Path
    names: Mapping[int, str]
    splits: _Splits
    num_keypoint_numbers: int = 0
    """How many numbers may follow the box in a line."""
    description: Path | None = None

    def source(self) -> Source:
        return Source(
            layout="yolo",
            root=self.root,
            splits=(*self.splits.places, *self.splits.missing),
            places=self.splits.places,
            description=self.description,
            read=partial(_read, self),
        )


def find_yolo(path: Path) -> Source | None:
    """Recognise a YAML file with `names` and splits, a folder with one, or `images/` and `labels/` folders."""
    if path.is_file():
        return _from_yaml(path).source() if path.suffix.lower() in _YAML else None
    file = _data_file(path)
    if file is not None:
        return _from_yaml(file).source()
    splits = _split_folders(path)
    if not splits.places:
        return None
    return _Data(root=path, names=dict(enumerate(_read_class_names(path))), splits=splits).source()


def _data_file(folder: Path) -> Path | None:
    """Return the YAML file of a folder that describes data; files of other names count where no usual one does."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in _YAML and file.name[0] != "."]
    usual = [file for file in files if file.stem in _USUAL_NAMES and _describes_data(file)]
    found = usual or [file for file in files if file.stem not in _USUAL_NAMES and _seems_to_describe_data(file)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise InputError(f"{folder} has several files that describe YOLO data: give the one to use of {names}")
    return found[0] if found else None


def _from_yaml(file: Path) -> _Data:
    try:
        data = pydantic.TypeAdapter(_DataFile).validate_python(_load(file))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = first["loc"][0] if first["loc"] else "the whole"
        raise InputError(f"{file} does not describe YOLO data: {place}: {first['msg'].lower()}") from None
    root = file.parent / (data.path or "")
    if not root.is_dir():
        raise InputError(f"{file} has its data in {root}, which is no folder")
    return _Data(
        root=root,
        names=dict(enumerate(data.names)) if isinstance(data.names, list) else data.names,
        splits=_named_splits(data, root=root, file=file),
        num_keypoint_numbers=math.prod(data.kpt_shape) if data.kpt_shape else 0,
        description=file,
    )


def _named_splits(data: _DataFile, *, root: Path, file: Path) -> _Splits:
    """Find the places that a YAML file names; a test split may be missing, as training needs none."""
    places: dict[str, list[Path]] = {}
    missing = {}
    for split, given in {"train": data.train, "val": data.val, "test": data.test}.items():
        entries = [given] if isinstance(given, str) else given or []
        try:
            found = [_place(entry, root=root, split=split, file=file) for entry in entries]
        except InputError as error:
            if split != "test" or not places:
                raise
            missing[split] = str(error)
        else:
            places |= {split: found} if found else {}
    if not places:
        raise InputError(f"{file} names none of the splits train, val and test")
    return _Splits(places, missing)


def _seems_to_describe_data(file: Path) -> bool:
    """Tell whether a file describes data; other tools' files need not be YAML that can be read."""
    try:
        return _describes_data(file)
    except InputError:
        return False


def _describes_data(file: Path) -> bool:
    content = _load(file)
    return isinstance(content, dict) and "names" in content and any(split in content for split in _SPLIT_KEYS)


def _load(file: Path) -> Any:  # noqa: ANN401 - YAML yields anything
    try:
        return read_yaml(read_bytes(file))
    except ValueError as error:
        raise InputError(f"{file} is not valid YAML: {error}") from None


def _place(entry: str, *, root: Path, split: str, file: Path) -> Path:
    """Return the folder or list that an entry of the YAML file means."""
    usual = root / entry.removeprefix("../")  # Roboflow writes ../train/images for what is in train/images
    candidates = (root / entry, file.parent / entry, usual)
    for candidate in candidates:
        if candidate.exists():
            return Path(os.path.normpath(candidate))
    wrong = f"{split} is {entry!r}, which is neither a folder nor a list of images"
    raise InputError(f"{file}: {wrong}: correct it, or add {usual}")


def _split_folders(path: Path) -> _Splits:
    """Find `images/train` or `train/images` beside their labels, or a single folder `images` beside `labels`."""
    for images, labels in _SPLIT_FOLDERS:
        found = {name: path / images.format(name) for name in _folder_names(path, images)}
        labelled = [name for name in found if (path / labels.format(name)).is_dir()]
        places = {name: [found[name]] for name in labelled if _is_split_name(name)}
        if places:
            bare = [name for name in found if name not in labelled and _is_split_name(name)]
            loose = [path / "images"] if _holds_labelled_images(path / "images", root=path) else []
            return _Splits(
                places,
                missing={name: _unlabelled(name, found[name], path / labels.format(name)) for name in bare},
                left_out=[*loose, *(found[name] for name in labelled if name not in places)],
            )
    is_single = (path / "images").is_dir() and (path / "labels").is_dir()
    return _Splits({"all": [path / "images"]} if is_single else {}, missing={})


def _folder_names(path: Path, pattern: str) -> list[str]:
    """Return what stands for `{}` in the folders of a pattern such as `images/{}`: training, validation, test, others."""
    folders = [folder.relative_to(path).parts for folder in path.glob(pattern.format("[!.]*")) if folder.is_dir()]
    names = [parts[pattern.split("/").index("{}")] for parts in folders]
    return sorted(names, key=lambda name: (_ROLES.index(role(name)) if _is_split_name(name) else len(_ROLES), name))


def _holds_labelled_images(folder: Path, *, root: Path) -> bool:
    """Tell whether images with labels are in a folder itself."""
    files = (file.absolute() for file in folder.glob("[!.]*") if file.suffix.lower() in SUFFIXES)
    return any(is_file(label_file(file, root)) for file in files)


def _is_split_name(name: str) -> bool:
    return name.lower().startswith(_SPLIT_WORDS) and role(name) in _ROLES


def _unlabelled(name: str, images: Path, labels: Path) -> str:
    """Return what is wrong with a split folder without labels; raise it as an InputError where it is no test split."""
    sentence = f"{images} has no labels, as there is no folder {labels}: add it, or move the images elsewhere"
    if role(name) != "test":
        raise InputError(sentence)
    return sentence


def _read_class_names(path: Path) -> list[str]:
    for file in (path / "classes.txt", path / "labels" / "classes.txt"):
        if file.is_file():
            return "\n".join(read_lines(file)).rstrip().split("\n")  # an empty line counts as a class, and is refused
    raise InputError(
        f"{path} has images and labels, but neither a data.yaml with names and train nor a classes.txt (a name a line):"
        " add one of them"
    )


def _read(data: _Data, splits: Sequence[str], counter: FindingCounter) -> RawData:
    if not data.names or any(not name.strip() for name in data.names.values()):
        raise InputError(f"the YOLO data in {data.root} has a class without a name")
    label_map = LabelMap(tuple(Category(number, data.names[number]) for number in sorted(data.names)))
    line_format = _LineFormat(label_map, data.num_keypoint_numbers)
    images = {}
    for split in splits:
        if split in data.splits.missing:
            counter.refuse(Fault.MISSING_SPLIT, data.splits.missing[split])
            continue
        paths = _image_paths(data, split, counter)
        images[split] = _raw_images(paths, root=data.root, line_format=line_format, counter=counter)
    _report_left_out(data, images, counter)
    return RawData(label_map=label_map, images=images)


def _report_left_out(data: _Data, images: Mapping[str, Sequence[RawImage]], counter: FindingCounter) -> None:
    root = data.root.absolute()
    for folder in data.splits.left_out:
        counter.add(Fault.UNUSED_FOLDER, os.path.relpath(folder, root))
    places = data.splits.places
    orphans = [file for split, found in images.items() for file in _orphans(places[split], found, root=data.root)]
    for file in dict.fromkeys(orphans):  # splits may share a folder
        counter.add(Fault.ORPHAN_LABELS, os.path.relpath(file, root))


def _image_paths(data: _Data, split: str, counter: FindingCounter) -> list[Path]:
    files = [file for place in data.splits.places[split] for file in _image_files(place, data.root, counter)]
    unique = list(dict.fromkeys(files))
    if len(unique) < len(files):
        counter.add(Fault.REPEATED_IMAGE, split, count=len(files) - len(unique))
    return unique


def _raw_images(
    paths: Sequence[Path], *, root: Path, line_format: _LineFormat, counter: FindingCounter
) -> list[RawImage]:
    images = []
    for number, path in enumerate(paths):
        file = label_file(path, root)
        try:
            lines = read_lines(file) if is_file(file) else []
        except InputError as error:
            counter.refuse(Fault.FAULTY_FILE, error)
            continue
        boxes = _read_boxes(lines, file, line_format, counter)
        images.append(RawImage(image_id=number, path=path, boxes=boxes, file=file, number=number, is_relative=True))
    return images


def _orphans(places: Sequence[Path], images: Sequence[RawImage], *, root: Path) -> Iterator[Path]:
    """Yield the label files with boxes that lie where those of image folders do, but belong to none of the images."""
    labelled = {image.file for image in images}
    for place in places:
        folder = label_file(place.absolute() / "any", root).parent
        if place.is_dir() and folder.is_dir():
            files = (file for file in files_below(folder) if file.suffix == ".txt" and file not in labelled)
            yield from (file for file in files if file.name != "classes.txt" and _holds_a_box(file))


def _holds_a_box(file: Path) -> bool:
    """Tell labels from notes and lists, which may lie among them."""
    try:
        lines = [line.split() for line in read_lines(file)]
    except InputError:
        return False
    return any(len(words) >= 5 and all(math.isfinite(_number(word)) for word in words) for words in lines)


def _image_files(place: Path, root: Path, counter: FindingCounter) -> list[Path]:
    if place.is_dir():
        return images_below(place)
    files = []
    for line in read_lines(place):
        try:
            files += [listed_image(line, place, root)] if line else []
        except InputError as error:
            counter.refuse(Fault.LEAVING, error)
    return files


def images_below(folder: Path) -> list[Path]:
    """Return the image files of a folder and its subfolders, linked ones too, hidden ones not."""
    return sorted(file for file in files_below(folder.absolute()) if file.suffix.lower() in SUFFIXES)


def listed_image(line: str, place: Path, root: Path) -> Path:
    """Return an image of a list; entries are relative to the data folder or, beginning with `./`, to the list."""
    return path_inside(root, os.path.relpath(place.parent / line, root) if line.startswith("./") else line)


def label_file(image: Path, root: Path) -> Path:
    """Swap the last folder `images` of the path for `labels`."""
    base = root.absolute().parent
    parts = list(image.relative_to(base).parts) if image.is_relative_to(base) else list(image.parts)
    positions = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if positions:
        parts[positions[-1]] = "labels"
    return (base.joinpath(*parts)).with_suffix(".txt")


def _read_boxes(lines: Sequence[str], file: Path, line_format: _LineFormat, counter: FindingCounter) -> list[RawBox]:
    boxes = []
    for number, line in enumerate(lines):
        try:
            boxes += [_read_box(line, line_format, number=number, file=file)] if line else []
        except InputError as error:
            counter.refuse(Fault.FAULTY_ENTRY, error)
            continue
        if len(line.split()) > 5 and not line_format.num_keypoint_numbers:
            counter.add(Fault.POLYGON, f"{file.name}: line {number + 1}")
    return boxes


def _read_box(line: str, line_format: _LineFormat, *, number: int, file: Path) -> RawBox:
    place = f"line {number + 1}"
    words = line.split()
    numbers, found = [_number(word) for word in words], reprlib.repr(line)
    keypoints = line_format.num_keypoint_numbers
    is_box = len(words) in (5, 5 + keypoints)
    is_polygon = not keypoints and len(words) > 6 and len(words) % 2 == 1
    if not (is_box or is_polygon) or not all(map(math.isfinite, numbers)):
        more = f", alone or before {keypoints} numbers of keypoints" if keypoints else ""
        raise InputError(f"{file}: {place} must hold a class number and four finite numbers{more}, found {found}")
    if numbers[0] not in line_format.label_map.training_ids:
        raise InputError(f"{file}: {place} has class {words[0][:20]}, which is not among the data's names")
    coordinates = numbers[1:5] if is_box else numbers[1:]
    if max(map(abs, coordinates)) > _LARGEST_FRACTION:
        raise InputError(f"{file}: {place} must be relative to the image, from 0 to 1, found {found}")
    convert: Callable[[Sequence[float]], tuple[float, float, float, float]] = _corners if is_box else _hull
    return RawBox(corners=convert(coordinates), dataset_id=int(numbers[0]), place=place, number=number)


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
