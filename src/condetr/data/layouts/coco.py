"""COCO JSON: one file for every split, beside or above its images."""

import json
import mmap
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from condetr.data.files import is_utf16, read_bytes
from condetr.data.findings import Fault, Note, Reading, refused
from condetr.data.index import Index, folder_of, index_folder, join, name_of, shown_folder
from condetr.data.layouts.coco_file import CocoAnnotation, CocoCategory, CocoFile, ParsedCoco, parse_coco
from condetr.data.raw import RawBox, RawData, RawImage, Source
from condetr.data.resolve import Finder, Place, Resolver, role_of
from condetr.data.splits import ROLES, role
from condetr.errors import InputError
from condetr.labels import Category, LabelMap

_FIRST_KEY = re.compile(rb'^(?:\xef\xbb\xbf)?\s*\{\s*"(info|licenses|images|annotations|categories|type)"\s*:')
_LIST = re.compile(rb'"(images|annotations)"\s*:\s*\[')
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*"((?:[^"\\]|\\.)*)"')
_IMAGES = re.compile(rb'"images"\s*:\s*\[\s*[^\s\]]')
_SOON_READ = 2**20  # bytes
_ROBOFLOW_NAME = "_annotations.coco.json"
_DETECTION = b'"score"'
_OTHER_TASKS = (b'"segments_info"', b'"caption"')


class _Files(NamedTuple):
    """What was recognised."""

    resolver: Resolver
    splits: Mapping[str, str]
    """The file of each split, below the index's root."""
    left_out: Sequence[str] = ()
    """COCO files that are not read."""


def find_coco(index: Index) -> Source | None:
    """Recognise JSON files that hold COCO's lists; None where there are none."""
    files = [file for file in index.ending_in(".json") if _is_coco(index.path(file))]
    if not files:
        return None
    chosen = _chosen(index, files)
    folders = {folder_of(file) for file in chosen}
    beside = [file for file in index.ending_in(".json") if folder_of(file) in folders and file not in files]
    damaged = [file for file in beside if _is_damaged(index.path(file), is_split=_role(_split_name(file)) is not None)]
    left_out = [file for file in files if file not in chosen]
    return _source(_Files(Resolver(index), _by_split([*chosen, *damaged]), left_out))


def coco_file(path: Path) -> Source:
    """Return the data set that a JSON file describes; its images may lie beside it or in folders beside its own."""
    if _is_prediction(path):
        raise InputError(f"{path} holds detections with scores, which a model found: give the annotations instead")
    near = index_folder(path.parent)
    if path.parent.name and not _any_is_there(_first_names(path), near, _split_name(path.name)):
        above = index_folder(path.parent.parent)
        file = join(path.parent.name, path.name)
        return _source(_Files(Resolver(above), {_split_name(file): file}))
    return _source(_Files(Resolver(near), {_split_name(path.name): path.name}))


def _any_is_there(names: Sequence[str], index: Index, split: str) -> bool:
    resolver = Resolver(index)
    for name in names[:20]:
        try:
            if resolver.image(name, Place("", _role(split)), base=None) is not None:
                return True
        except InputError:  # there are even two
            return True
    return False


def damaged_coco(index: Index) -> Source | None:
    """Return what should be COCO by its place or name, where nothing else is there: reading says what is wrong."""
    files = [file for file in index.ending_in(".json") if _is_called_like_coco(file)]
    return _source(_Files(Resolver(index), _by_split(files))) if files else None


def _is_called_like_coco(file: str) -> bool:
    name = name_of(file)
    return name_of(folder_of(file)).lower() == "annotations" or name.startswith(
        ("annotations", "_annotations", "instances_")
    )


def _source(files: _Files) -> Source:
    index = files.resolver.index
    places = {split: Place(folder_of(file), _role(split)) for split, file in files.splits.items()}
    folders = {}
    for split, file in files.splits.items():
        names = _first_names(index.path(file))
        base = files.resolver.base(names, places[split]) if names else None
        if base is not None:
            folders[split] = join(base, folder_of(names[0].replace("\\", "/")).lstrip("./")).rstrip("/")
    told = ", ".join(
        f"{file} with images in {shown_folder(folders[split])}" if split in folders else file
        for split, file in files.splits.items()
    )
    return Source(
        layout="coco",
        root=index.root,
        understood=f"COCO: {told}{_no_split(files.splits)}",
        splits=tuple(files.splits),
        places={split: (index.path(file),) for split, file in files.splits.items()},
        image_folders=frozenset(index.path(folder).resolve() for folder in folders.values()),
        num_images=sum(read_bytes(index.path(file)).count(b'"file_name"') for file in files.splits.values()),
        read=partial(_read, files),
    )


def _no_split(splits: Mapping[str, str]) -> str:
    return "" if any(_role(split) for split in splits) else "; no split"


def _role(split: str) -> str | None:
    return role(split) if role(split) in ROLES else None


def _is_coco(file: Path) -> bool:
    """Tell a file of boxes by its lists; a large or damaged one by its first key, which others may have as well."""
    head = _head(file)
    if _IMAGES.search(head) and not _FILE_NAME.search(head):
        return False  # a list of images in another tool's file
    return _begins_like_coco(head) and not _is_prediction(file) and not _holds(file, *_OTHER_TASKS)


def _head(file: Path) -> bytes:
    try:
        head = read_bytes(file, most=_SOON_READ)
    except InputError:
        return b""
    return head.decode("utf-16", errors="ignore").encode() if is_utf16(head) else head


def _begins_like_coco(head: bytes) -> bool:
    try:
        content = json.loads(head)
    except (ValueError, RecursionError):
        return bool(_FIRST_KEY.match(head) or _LIST.search(head)) and not head.lstrip().startswith(b"[")
    return isinstance(content, dict) and any(isinstance(content.get(name), list) for name in ("images", "annotations"))


def _is_damaged(file: Path, *, is_split: bool) -> bool:
    """Tell a file that is no COCO although its place or name says so: a split must not be lost without a word."""
    if _holds(file, _DETECTION, *_OTHER_TASKS):
        return False
    head = _head(file)
    try:
        json.loads(head)
    except (ValueError, RecursionError):
        return len(head) < _SOON_READ
    return is_split


def _is_prediction(file: Path) -> bool:
    """Tell what a detector found, as `condetr predict` writes it, from what someone annotated."""
    return _holds(file, _DETECTION)


def _holds(file: Path, *words: bytes) -> bool:
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(word) >= 0 for word in words)
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def _first_names(file: Path) -> list[str]:
    """Return the first file names that a COCO file holds, without reading all of it."""
    names = []
    for text in _FILE_NAME.findall(_head(file))[:200]:
        try:
            names.append(str(json.loads(b'"' + text + b'"')))
        except ValueError:
            continue
    return names


def _chosen(index: Index, files: Sequence[str]) -> list[str]:
    """Take `annotations/`, of it `instances_*.json` where any is; otherwise a file for each split's folder, or all."""
    shallowest = min(file.count("/") for file in files)
    usual = [file for file in files if name_of(folder_of(file)).lower() == "annotations"]
    usual = [file for file in usual if file.count("/") == min(each.count("/") for each in usual)]
    if usual and usual[0].count("/") <= shallowest + 1:
        return [file for file in usual if name_of(file).startswith("instances_")] or usual
    by_folder: dict[str, list[str]] = {}
    for file in files:
        by_folder.setdefault(folder_of(file), []).append(file)
    roboflow = {folder: join(folder, _ROBOFLOW_NAME) for folder in by_folder}
    chosen = []
    for folder, inside in by_folder.items():
        if roboflow[folder] in inside:
            chosen.append(roboflow[folder])
        elif len(inside) > 1 and folder and role(name_of(folder)) in ROLES:
            found = ", ".join(map(name_of, inside))
            raise InputError(
                f"{index.path(folder)} has several COCO files, where one is read: {found}; leave the one to use"
            )
        else:
            chosen += inside
    return chosen


def _by_split(files: Sequence[str]) -> dict[str, str]:
    """Name the split of each file; those that would be called alike go by their paths."""
    names = [_split_name(file) for file in files]
    twice = {name for name, count in Counter(names).items() if count > 1}
    return {(file.rpartition(".")[0] if name in twice else name): file for name, file in zip(names, files, strict=True)}


def _split_name(file: str) -> str:
    name = name_of(file).rpartition(".")[0].removeprefix("instances_")
    folder = name_of(folder_of(file))
    if name_of(file) == _ROBOFLOW_NAME or (_role(name) is None and role_of(folder) is not None):
        return folder or "all"
    return name


def _read(files: _Files, splits: Sequence[str]) -> Reading[RawData]:
    paths = {split: files.resolver.index.path(file) for split, file in files.splits.items()}
    for file in files.left_out:
        yield Note(Fault.NOT_READ, file)
    parsed = yield from _parse_all({split: paths[split] for split in splits})
    label_map = yield from _label_map({paths[split]: content for split, (content, _) in parsed.items()})
    images = {}
    for split, some in parsed.items():
        finder = yield from _finder(files, split, some.content, paths[split])
        images[split] = yield from _images(some, paths[split], finder=finder, label_map=label_map)
    return RawData(label_map=label_map, images=images)


def _parse_all(files: Mapping[str, Path]) -> Reading[dict[str, ParsedCoco]]:
    """Parse every file; raise InputError where none can be."""
    parsed, errors = {}, []
    for split, file in files.items():
        try:
            parsed[split] = yield from parse_coco(file)
        except InputError as error:
            yield refused(Fault.FAULTY_FILE, error)
            errors.append(error)
    if errors and not parsed:
        raise errors[0]
    return parsed


def _label_map(contents: Mapping[Path, CocoFile]) -> Reading[LabelMap]:
    """Sort the categories of all files by id; the files must agree about every id and name that they share."""
    used = {annotation.category_id for content in contents.values() for annotation in content.annotations}
    names: dict[int, str] = {}
    for file, content in contents.items():
        categories = yield from _without_unused_parents(content.categories, used=used)
        try:
            LabelMap(tuple(Category(category.id, category.name) for category in categories))
        except InputError as error:
            yield refused(Fault.CATEGORY_CLASH, f"{file}: {error}")
        for category in categories:
            if names.setdefault(category.id, category.name) != category.name:
                yield refused(
                    Fault.CATEGORY_CLASH,
                    f"the splits disagree: category {category.id} is {names[category.id]!r} in one"
                    f" and {category.name!r} in {file}",
                )
    if not names:
        yield refused(Fault.NOTHING, f"{next(iter(contents))} has no categories")
    return (yield from _told_apart([Category(dataset_id, names[dataset_id]) for dataset_id in sorted(names)]))


def _told_apart(categories: Sequence[Category]) -> Reading[LabelMap]:
    """Refuse names that stand for several ids; where reading goes on, the ids are added to them."""
    try:
        return LabelMap(tuple(categories))
    except InputError as error:
        yield refused(Fault.CATEGORY_CLASH, error)
    return LabelMap(
        tuple(category._replace(name=f"{category.name} ({category.dataset_id})") for category in categories)
    )


def _without_unused_parents(categories: Sequence[CocoCategory], *, used: set[int]) -> Reading[list[CocoCategory]]:
    """Leave out what Roboflow adds to its files: a parent category without boxes, often named like its only child."""
    parents = {category.supercategory for category in categories}
    unused = [category for category in categories if category.id not in used and category.supercategory == "none"]
    named = Counter(category.name for category in categories)
    repeated = {
        category.id: category.name for category in unused if category.name in parents and named[category.name] > 1
    }
    for dataset_id, name in repeated.items():
        yield Note(Fault.REPEATED_CATEGORY, f"category {dataset_id} {name!r}")
    return [category for category in categories if category.id not in repeated]


def _finder(files: _Files, split: str, content: CocoFile, file: Path) -> Reading[Finder]:
    """Return what finds the images that a file lists; refuse a file of which none is there."""
    place = Place(folder_of(files.splits[split]), _role(split))
    names = [image.file_name for image in content.images]
    if not names:
        yield refused(Fault.NOTHING, f"{file} lists no images")
    finder = Finder(files.resolver, names, place, where=file.name)
    if names and finder.base is None and not any(finder.is_somewhere(name) for name in names):
        root = files.resolver.index.root
        sentence = f"the images of {file} are not there: no file below {root} is called {name_of(names[0])}"
        yield refused(Fault.NOTHING, sentence)
    return finder


def _images(parsed: ParsedCoco, file: Path, *, finder: Finder, label_map: LabelMap) -> Reading[list[RawImage]]:
    content, positions = parsed
    images: list[RawImage] = []
    counts = Counter(image.id for image in content.images)
    boxes: dict[int, list[RawBox]] = {image.id: [] for image in content.images}
    yield from _sort_in(parsed, boxes, file=file, label_map=label_map)
    for number, image in zip(positions["images"], content.images, strict=True):
        if counts[image.id] > 1:  # nobody can tell which of them an annotation means
            yield refused(
                Fault.REPEATED_IMAGE_ID,
                f"{file} has several images of id {image.id}, one of them {image.file_name}: image ids must be unique",
            )
            continue
        path = yield from finder.path(image.file_name)
        if path is None:
            continue
        size_hw = (int(image.height), int(image.width)) if image.height and image.width else None
        images.append(
            RawImage(image_id=image.id, path=path, boxes=boxes[image.id], files=(file,), number=number, size_hw=size_hw)
        )
    return images


def _sort_in(parsed: ParsedCoco, boxes: dict[int, list[RawBox]], *, file: Path, label_map: LabelMap) -> Iterator[Note]:
    """Put every annotation into the list of its image."""
    seen: set[int] = set()
    for index, annotation in zip(parsed.positions["annotations"], parsed.content.annotations, strict=True):
        place = f"annotation {annotation.id}" if annotation.id is not None else f"annotation number {index}"
        if annotation.id in seen:
            yield Note(Fault.REPEATED_ID, f"{file.name}: {place}")
        if annotation.id is not None:
            seen.add(annotation.id)
        if annotation.category_id not in label_map.training_ids:
            yield refused(
                Fault.UNKNOWN_CATEGORY,
                f"{file}: {place} has category_id {annotation.category_id}, which no category has",
            )
            continue
        if annotation.image_id not in boxes:
            yield Note(Fault.ORPHAN, f"{file.name}: {place} of image {annotation.image_id}")
            continue
        if annotation.iscrowd:
            yield Note(Fault.CROWD, f"{file.name}: {place}")
        if annotation.area is not None and annotation.square_pixels is None:
            yield Note(Fault.BAD_AREA, f"{file.name}: {place} has area {annotation.area!r}"[:200])
        boxes[annotation.image_id].append(_raw_box(annotation, place, number=index))


def _raw_box(annotation: CocoAnnotation, place: str, *, number: int) -> RawBox:
    x, y, width, height = annotation.bbox
    return RawBox(
        corners=(x, y, x + width, y + height),
        dataset_id=annotation.category_id,
        place=place,
        number=number,
        is_crowd=annotation.iscrowd,
        area=annotation.square_pixels,
    )
