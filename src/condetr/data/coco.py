"""COCO JSON: one file for every split, beside or above its images."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from condetr.data.coco_file import CocoAnnotation, CocoCategory, CocoFile, CocoImage, ParsedCoco, parse_coco
from condetr.data.files import is_file, path_inside
from condetr.data.findings import Fault, FindingCounter
from condetr.data.records import RawBox, RawData, RawImage, Source
from condetr.data.splits import ROLES, role
from condetr.errors import InputError
from condetr.labels import Category, LabelMap

_FIRST_KEY = re.compile(rb'^(?:\xef\xbb\xbf)?\s*\{\s*"(info|licenses|images|annotations|categories|type)"\s*:')
_LIST = re.compile(rb'"(images|annotations)"\s*:\s*\[')
_SOON_READ = 2**20  # bytes
_ROBOFLOW_NAME = "_annotations.coco.json"


def find_coco(path: Path) -> Source | None:
    """Recognise a JSON file, or a folder with JSON files in one of the usual places; None where there are none."""
    files = {_split_name(path): path} if path.suffix.lower() == ".json" and path.is_file() else _find_files(path)
    if not files:
        return None
    root = path.parent if path.is_file() else path
    return Source(
        layout="coco",
        root=root,
        splits=tuple(files),
        places={split: (file,) for split, file in files.items()},
        read=partial(_read, files, path),
    )


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
    if len(files) > 1 and role(folder.name) in ROLES:
        found = ", ".join(file.name for file in files)
        raise InputError(f"{folder} has several COCO files, where one is read: {found}; leave the one to use")
    return files[0] if len(files) == 1 else None


def _coco_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.json")) if _begins_like_coco(file)]


def _begins_like_coco(file: Path) -> bool:
    """Tell a COCO file by its lists; a large or damaged one by its first key, which other files may have as well."""
    with file.open("rb") as stream:
        head = stream.read(_SOON_READ)
    try:
        content = json.loads(head)
    except (ValueError, RecursionError):
        return bool(_FIRST_KEY.match(head) or _LIST.search(head))
    return isinstance(content, dict) and not content.keys().isdisjoint(("images", "annotations"))


def _split_name(file: Path) -> str:
    return file.parent.name if file.name == _ROBOFLOW_NAME else file.stem.removeprefix("instances_")


def _read(files: Mapping[str, Path], pointed_at: Path, splits: Sequence[str], counter: FindingCounter) -> RawData:
    parsed = _parse_all({split: files[split] for split in splits}, counter)
    label_map = _label_map({files[split]: content for split, (content, _) in parsed.items()}, counter)
    images = {}
    for split, (content, positions) in parsed.items():
        folder = _image_folder(content, files[split], split=split, pointed_at=pointed_at, counter=counter)
        images[split] = _images(
            content, files[split], positions=positions, folder=folder, label_map=label_map, counter=counter
        )
    return RawData(label_map=label_map, images=images)


def _parse_all(files: Mapping[str, Path], counter: FindingCounter) -> dict[str, ParsedCoco]:
    parsed, errors = {}, []
    for split, file in files.items():
        try:
            parsed[split] = parse_coco(file, counter)
        except InputError as error:
            errors.append(error)
    if errors and not parsed:
        raise errors[0]
    for refused in errors:
        counter.refuse(Fault.FAULTY_FILE, refused)
    return parsed


def _label_map(contents: Mapping[Path, CocoFile], counter: FindingCounter) -> LabelMap:
    """Sort the categories of all files by id; the files must agree about every id and name that they share."""
    used = {annotation.category_id for content in contents.values() for annotation in content.annotations}
    names: dict[int, str] = {}
    for file, content in contents.items():
        categories = _without_unused_parents(content.categories, used=used, counter=counter)
        try:
            LabelMap(tuple(Category(category.id, category.name) for category in categories))
        except InputError as error:
            counter.refuse(Fault.CATEGORY_CLASH, f"{file}: {error}")
        for category in categories:
            if names.setdefault(category.id, category.name) != category.name:
                counter.refuse(
                    Fault.CATEGORY_CLASH,
                    f"the splits disagree: category {category.id} is {names[category.id]!r} in one"
                    f" and {category.name!r} in {file}",
                )
    if not names:
        counter.refuse(Fault.NOTHING, f"{next(iter(contents))} has no categories")
    return _told_apart([Category(dataset_id, names[dataset_id]) for dataset_id in sorted(names)], counter)


def _told_apart(categories: Sequence[Category], counter: FindingCounter) -> LabelMap:
    """Refuse names that stand for several ids; where reading goes on, the ids are added to them."""
    try:
        return LabelMap(tuple(categories))
    except InputError as error:
        counter.refuse(Fault.CATEGORY_CLASH, error)
    return LabelMap(
        tuple(category._replace(name=f"{category.name} ({category.dataset_id})") for category in categories)
    )


def _without_unused_parents(
    categories: Sequence[CocoCategory], *, used: set[int], counter: FindingCounter
) -> list[CocoCategory]:
    """Leave out what Roboflow adds to its files: a parent category without boxes, often named like its only child."""
    parents = {category.supercategory for category in categories}
    unused = [category for category in categories if category.id not in used and category.supercategory == "none"]
    named = Counter(category.name for category in categories)
    repeated = {
        category.id: category.name for category in unused if category.name in parents and named[category.name] > 1
    }
    for dataset_id, name in repeated.items():
        counter.add(Fault.REPEATED_CATEGORY, f"category {dataset_id} {name!r}")
    return [category for category in categories if category.id not in repeated]


def _image_folder(content: CocoFile, file: Path, *, split: str, pointed_at: Path, counter: FindingCounter) -> Path:
    """Return the folder, among the usual ones, in which most of the first images are found."""
    if not content.images:
        counter.refuse(Fault.NOTHING, f"{file} lists no images")
        return file.parent
    bases = [file.parent]
    if pointed_at != file.parent or file.parent.name == "annotations":
        bases.append(file.parent.parent)
    inner = dict.fromkeys(("", split, role(split), "images", f"images/{split}", f"images/{role(split)}", "data"))
    folders = [base / name for base in bases for name in inner]
    found = [sum(_is_there(folder, image, counter) for image in content.images[:20]) for folder in folders]
    if not any(found):
        looked_in = ", ".join(str(folder) for folder in folders if folder.is_dir())
        counter.refuse(
            Fault.NOTHING,
            f"the images of {file} are not there: {content.images[0].file_name} is in none of {looked_in}",
        )
    return folders[found.index(max(found))]


def _is_there(folder: Path, image: CocoImage, counter: FindingCounter) -> bool:
    try:
        return is_file(path_inside(folder, image.file_name))
    except InputError:
        if counter.on_error == "raise":
            raise
        return False  # counted when the image's turn comes


def _images(
    content: CocoFile,
    file: Path,
    *,
    positions: Mapping[str, Sequence[int]],
    folder: Path,
    label_map: LabelMap,
    counter: FindingCounter,
) -> list[RawImage]:
    images: list[RawImage] = []
    counts = Counter(image.id for image in content.images)
    boxes: dict[int, list[RawBox]] = {image.id: [] for image in content.images}
    _sort_in(content, boxes, file=file, positions=positions["annotations"], label_map=label_map, counter=counter)
    for number, image in zip(positions["images"], content.images, strict=True):
        if counts[image.id] > 1:  # nobody can tell which of them an annotation means
            counter.refuse(
                Fault.REPEATED_IMAGE_ID,
                f"{file} has several images of id {image.id}, one of them {image.file_name}: "
                "image ids must be unique",
            )
            continue
        try:
            path = path_inside(folder, image.file_name)
        except InputError as error:
            counter.refuse(Fault.LEAVING, error)
            continue
        size_hw = (int(image.height), int(image.width)) if image.height and image.width else None
        images.append(
            RawImage(image_id=image.id, path=path, boxes=boxes[image.id], file=file, number=number, size_hw=size_hw)
        )
    return images


def _sort_in(
    content: CocoFile,
    boxes: dict[int, list[RawBox]],
    *,
    file: Path,
    positions: Sequence[int],
    label_map: LabelMap,
    counter: FindingCounter,
) -> None:
    """Put every annotation into the list of its image."""
    seen: set[int] = set()
    for index, annotation in zip(positions, content.annotations, strict=True):
        place = f"annotation {annotation.id}" if annotation.id is not None else f"annotation number {index}"
        if annotation.id in seen:
            counter.add(Fault.REPEATED_ID, f"{file.name}: {place}")
        if annotation.id is not None:
            seen.add(annotation.id)
        if annotation.category_id not in label_map.training_ids:
            counter.refuse(
                Fault.UNKNOWN_CATEGORY,
                f"{file}: {place} has category_id {annotation.category_id}, which no category has",
            )
            continue
        if annotation.image_id not in boxes:
            counter.add(Fault.ORPHAN, f"{file.name}: {place} of image {annotation.image_id}")
            continue
        if annotation.iscrowd:
            counter.add(Fault.CROWD, f"{file.name}: {place}")
        boxes[annotation.image_id].append(_raw_box(annotation, place, number=index))


def _raw_box(annotation: CocoAnnotation, place: str, *, number: int) -> RawBox:
    x, y, width, height = annotation.bbox
    return RawBox(
        corners=(x, y, x + width, y + height),
        dataset_id=annotation.category_id,
        place=place,
        number=number,
        is_crowd=annotation.iscrowd,
        area=annotation.area,
    )
