"""COCO JSON: one file for every split, beside or above its images."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field

from condetr.data.files import path_inside, read_bytes
from condetr.data.findings import Fault, FindingCounter
from condetr.data.records import RawBox, RawData, RawImage, Source
from condetr.data.splits import role
from condetr.errors import InputError
from condetr.labels import Category, LabelMap

_FIRST_KEY = re.compile(rb'^(?:\xef\xbb\xbf)?\s*\{\s*"(info|licenses|images|annotations|categories|type)"\s*:')
_ROBOFLOW_NAME = "_annotations.coco.json"

_Id = Annotated[int, Field(strict=True)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


@dataclass(frozen=True, kw_only=True)
class _Image:
    id: _Id
    file_name: _Text
    width: float | None = None
    height: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Annotation:
    image_id: _Id
    category_id: _Id
    bbox: tuple[_Number, _Number, _Number, _Number]
    """x, y, width, height."""
    id: _Id | None = None
    iscrowd: bool = False
    area: Annotated[_Number, Field(ge=0)] | None = None


@dataclass(frozen=True, kw_only=True)
class _Category:
    id: _Id
    name: _Text
    supercategory: str | None = None


@dataclass(frozen=True, kw_only=True)
class _CocoFile:
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def find_coco(path: Path) -> Source | None:
    """Recognise a JSON file, or a folder with JSON files in one of the usual places; None where there are none."""
    files = {_split_name(path): path} if path.suffix.lower() == ".json" and path.is_file() else _find_files(path)
    if not files:
        return None
    root = path.parent if path.is_file() else path
    return Source(layout="coco", root=root, splits=tuple(files), read=partial(_read, files, path))


def _find_files(folder: Path) -> dict[str, Path]:
    """Return the JSON file of every split: in `annotations/`, in a folder for each split, or directly inside."""
    if not folder.is_dir():
        return {}
    named = sorted((folder / "annotations").glob("*.json"))
    files = [file for file in named if file.name.startswith("instances_")] or named
    if files:
        return {_split_name(file): file for file in files}
    inner = {child.name: _only_coco_file(child) for child in sorted(folder.iterdir()) if child.is_dir()}
    files_by_folder = {name: file for name, file in inner.items() if file is not None}
    return files_by_folder or {_split_name(file): file for file in _coco_files(folder)}


def _only_coco_file(folder: Path) -> Path | None:
    if (folder / _ROBOFLOW_NAME).is_file():
        return folder / _ROBOFLOW_NAME
    files = _coco_files(folder)
    return files[0] if len(files) == 1 else None


def _coco_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.json")) if _begins_like_coco(file)]


def _begins_like_coco(file: Path) -> bool:
    with file.open("rb") as stream:
        return _FIRST_KEY.match(stream.read(4096)) is not None


def _split_name(file: Path) -> str:
    return file.parent.name if file.name == _ROBOFLOW_NAME else file.stem.removeprefix("instances_")


def _read(files: Mapping[str, Path], pointed_at: Path, splits: Sequence[str], counter: FindingCounter) -> RawData:
    parsed = {split: _parse(files[split]) for split in splits}
    label_map = _label_map({files[split]: content for split, content in parsed.items()}, counter)
    images = {}
    for split, content in parsed.items():
        folder = _image_folder(content, files[split], split=split, pointed_at=pointed_at)
        images[split] = _images(content, files[split], folder=folder, label_map=label_map, counter=counter)
    return RawData(label_map=label_map, images=images)


def _parse(file: Path) -> _CocoFile:
    text = read_bytes(file).removeprefix(b"\xef\xbb\xbf")
    try:
        return pydantic.TypeAdapter(_CocoFile).validate_json(text)
    except pydantic.ValidationError as error:
        raise InputError(f"{file} {_complaint(error, text)}") from None


def _complaint(error: pydantic.ValidationError, text: bytes) -> str:
    first = error.errors(include_url=False)[0]
    place, message = first["loc"], f"{first['msg'][0].lower()}{first['msg'][1:]}"
    if first["type"] == "json_invalid":
        return f"is not JSON: {message}"
    if len(place) < 3:
        part = f"`{'.'.join(str(name) for name in place)}`: {message}" if place else message
        return f"is not a COCO file, which holds the lists images, annotations and categories: {part}"
    section, index, field = place[:3]
    item: Any = json.loads(text)[section][index]
    kind = {"images": "image", "annotations": "annotation", "categories": "category"}[str(section)]
    where = f"is faulty: {kind} {item.get('id', f'number {index}')} has"
    if field not in item:
        return f"{where} no {field}"
    expected = "expected four finite numbers (x, y, width, height)" if field == "bbox" else message
    return f"{where} {field} {item[field]!r}: {expected}"


def _label_map(contents: Mapping[Path, _CocoFile], counter: FindingCounter) -> LabelMap:
    """Sort the categories of all files by id; the files must agree about every id and name that they share."""
    used = {annotation.category_id for content in contents.values() for annotation in content.annotations}
    names: dict[int, str] = {}
    for file, content in contents.items():
        categories = _without_unused_parents(content.categories, used=used, counter=counter)
        try:
            LabelMap(tuple(Category(category.id, category.name) for category in categories))
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        for category in categories:
            if names.setdefault(category.id, category.name) != category.name:
                raise InputError(
                    f"the splits disagree: category {category.id} is {names[category.id]!r} in one"
                    f" and {category.name!r} in {file}"
                )
    if not names:
        raise InputError(f"{next(iter(contents))} has no categories")
    return LabelMap(tuple(Category(dataset_id, names[dataset_id]) for dataset_id in sorted(names)))


def _without_unused_parents(
    categories: Sequence[_Category], *, used: set[int], counter: FindingCounter
) -> list[_Category]:
    """Leave out what Roboflow adds to its files: a parent category without boxes, often named like its only child."""
    parents = {category.supercategory for category in categories}
    unused = [category for category in categories if category.id not in used and category.supercategory == "none"]
    named = [category.name for category in categories]
    repeated = [category for category in unused if category.name in parents and named.count(category.name) > 1]
    for category in repeated:
        counter.add(Fault.REPEATED_CATEGORY, f"category {category.id} {category.name!r}")
    return [category for category in categories if category not in repeated]


def _image_folder(content: _CocoFile, file: Path, *, split: str, pointed_at: Path) -> Path:
    """Return the folder, among the usual ones, in which most of the first images are found."""
    if not content.images:
        raise InputError(f"{file} lists no images")
    bases = [file.parent]
    if pointed_at != file.parent or file.parent.name == "annotations":
        bases.append(file.parent.parent)
    inner = dict.fromkeys(("", split, role(split), "images", f"images/{split}", f"images/{role(split)}", "data"))
    folders = [base / name for base in bases for name in inner]
    found = [sum(path_inside(folder, image.file_name).is_file() for image in content.images[:20]) for folder in folders]
    if not any(found):
        looked_in = ", ".join(str(folder) for folder in folders if folder.is_dir())
        raise InputError(f"the images of {file} are not there: {content.images[0].file_name} is in none of {looked_in}")
    return folders[found.index(max(found))]


def _images(
    content: _CocoFile, file: Path, *, folder: Path, label_map: LabelMap, counter: FindingCounter
) -> list[RawImage]:
    boxes: dict[int, list[RawBox]] = {}
    for image in content.images:
        if image.id in boxes:
            raise InputError(f"{file} has two images of id {image.id}: image ids must be unique")
        boxes[image.id] = []
    _sort_in(content.annotations, boxes, file=file, label_map=label_map, counter=counter)
    return [
        RawImage(
            image_id=image.id,
            path=path_inside(folder, image.file_name),
            boxes=boxes[image.id],
            size_hw=(int(image.height), int(image.width)) if image.height and image.width else None,
        )
        for image in content.images
    ]


def _sort_in(
    annotations: Sequence[_Annotation],
    boxes: dict[int, list[RawBox]],
    *,
    file: Path,
    label_map: LabelMap,
    counter: FindingCounter,
) -> None:
    """Put every annotation into the list of its image."""
    seen: set[int] = set()
    for index, annotation in enumerate(annotations):
        place = f"annotation {annotation.id}" if annotation.id is not None else f"annotation number {index}"
        if annotation.id in seen:
            counter.add(Fault.REPEATED_ID, f"{file.name}: {place}")
        if annotation.id is not None:
            seen.add(annotation.id)
        if annotation.category_id not in label_map.training_ids:
            raise InputError(f"{file}: {place} has category_id {annotation.category_id}, which no category has")
        if annotation.image_id not in boxes:
            counter.add(Fault.ORPHAN, f"{file.name}: {place} of image {annotation.image_id}")
            continue
        if annotation.iscrowd:
            counter.add(Fault.CROWD, f"{file.name}: {place}")
        boxes[annotation.image_id].append(_raw_box(annotation, place))


def _raw_box(annotation: _Annotation, place: str) -> RawBox:
    x, y, width, height = annotation.bbox
    return RawBox(
        corners=(x, y, x + width, y + height),
        dataset_id=annotation.category_id,
        place=place,
        is_crowd=annotation.iscrowd,
        area=annotation.area,
    )
