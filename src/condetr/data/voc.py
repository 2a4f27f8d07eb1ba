"""Pascal VOC: one XML file for every image, and lists of image names for every split.

VOC counts pixels from 1 and includes the last one, so a box from 1 to 5 covers five pixels. As the field's tools do,
`xmin` and `ymin` are lowered by one while `xmax` and `ymax` stay: the box becomes the edges 0 to 5. Where both are
the same number nothing is lowered: such a box is a slip of the mouse, not an object one pixel wide, and has no area.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from condetr.data.files import path_inside, read_bytes, read_lines
from condetr.data.findings import Fault, FindingCounter
from condetr.data.images import SUFFIXES
from condetr.data.records import RawBox, RawData, RawImage, Source
from condetr.errors import InputError
from condetr.labels import Category, LabelMap

_WITHOUT_LISTS = "all"  # name of the only split where ImageSets/Main is missing


class _Object(NamedTuple):
    name: str
    corners: tuple[float, float, float, float]
    is_difficult: bool


class _Annotation(NamedTuple):
    objects: tuple[_Object, ...]
    size_hw: tuple[int, int] | None


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds elements, and refuses declarations, which annotations never need and attacks with entities do."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError(f"it declares a document type {name!r}, which annotations must not")


def find_voc(path: Path) -> Source | None:
    """Recognise a folder with `Annotations/*.xml`, itself or in `VOCdevkit/VOC2007` and the like below it."""
    folders = (path, *sorted(path.glob("VOC*")), *sorted(path.glob("VOCdevkit/VOC*")))
    roots = [root for root in folders if next((root / "Annotations").glob("*.xml"), None) is not None]
    if not roots:
        return None
    if len(roots) > 1:
        raise InputError(f"{path} has several VOC data sets, give one of them: {', '.join(map(str, roots))}")
    root = roots[0]
    lists = _split_lists(root)
    return Source(layout="voc", root=root, splits=tuple(lists), read=partial(_read, root, lists))


def _split_lists(root: Path) -> dict[str, list[str]]:
    """Return the image names of every split; VOC's lists of one class (`cat_train.txt`) have a second column."""
    lists = {}
    for file in sorted((root / "ImageSets" / "Main").glob("*.txt")):
        lines = [line.split() for line in read_lines(file) if line]
        if lines and all(len(words) == 1 for words in lines):
            lists[file.stem] = [words[0] for words in lines]
    return lists or {_WITHOUT_LISTS: sorted(file.stem for file in (root / "Annotations").glob("*.xml"))}


def _read(root: Path, lists: Mapping[str, list[str]], splits: Sequence[str], counter: FindingCounter) -> RawData:
    names = {split: _once(lists[split], split, counter) for split in splits}
    annotations = {name: _parse(path_inside(root / "Annotations", f"{name}.xml")) for name in _all_names(root, lists)}
    missing = sorted({name for split in splits for name in names[split]} - set(annotations))
    if missing:
        raise InputError(f"{root / 'Annotations'} lacks {len(missing)} listed files, the first: {missing[0]}.xml")
    # Over every split, so that the ids do not depend on which one is opened.
    classes = sorted({thing.name for annotation in annotations.values() for thing in annotation.objects})
    if not classes:
        raise InputError(f"the annotations in {root / 'Annotations'} hold no object")
    ids = {name: number for number, name in enumerate(classes, start=1)}
    files = _image_files(root)
    return RawData(
        label_map=LabelMap(tuple(Category(number, name) for name, number in ids.items())),
        images={
            split: [
                _raw_image(position, _image_path(root, name, files), annotations[name], ids=ids, counter=counter)
                for position, name in enumerate(names[split])
            ]
            for split in splits
        },
    )


def _once(names: Sequence[str], split: str, counter: FindingCounter) -> list[str]:
    times = Counter(names)
    for name, count in times.items():
        if count > 1:
            counter.add(Fault.REPEATED_IMAGE, f"{split}.txt: {name}", count=count - 1)
    return list(times)


def _all_names(root: Path, lists: Mapping[str, list[str]]) -> list[str]:
    """Return the names of all splits that have an annotation file: test lists often come without any."""
    present = {file.stem for file in (root / "Annotations").glob("*.xml")}
    return [name for name in dict.fromkeys(name for names in lists.values() for name in names) if name in present]


def _image_files(root: Path) -> dict[str, Path]:
    folder = root / "JPEGImages"
    if not folder.is_dir():
        raise InputError(f"{root} has annotations but no folder JPEGImages with the images")
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES}


def _image_path(root: Path, name: str, files: Mapping[str, Path]) -> Path:
    return files.get(name) or path_inside(root / "JPEGImages", f"{name}.jpg")


def _parse(file: Path) -> _Annotation:
    try:
        tree = ElementTree.fromstring(read_bytes(file), parser=ElementTree.XMLParser(target=_NoDoctype()))
        return _Annotation(
            objects=tuple(_object(element, number) for number, element in enumerate(tree.iterfind("object"), start=1)),
            size_hw=_size_hw(tree),
        )
    except (ElementTree.ParseError, InputError) as error:
        raise InputError(f"{file} is not a usable annotation: {error}") from None


def _size_hw(tree: ElementTree.Element) -> tuple[int, int] | None:
    height, width = tree.findtext("size/height", "0").strip(), tree.findtext("size/width", "0").strip()
    return (int(height), int(width)) if height.isdecimal() and width.isdecimal() and int(height) * int(width) else None


def _object(element: ElementTree.Element, number: int) -> _Object:
    name = element.findtext("name", "").strip()
    if not name:
        raise InputError(f"object {number} has no name")
    x1, y1, x2, y2 = (_coordinate(element, side, number) for side in ("xmin", "ymin", "xmax", "ymax"))
    is_difficult = element.findtext("difficult", "0").strip() == "1"
    corners = (x1 - 1 if x1 < x2 else x1, y1 - 1 if y1 < y2 else y1, x2, y2)
    return _Object(name=name, corners=corners, is_difficult=is_difficult)


def _coordinate(element: ElementTree.Element, side: str, number: int) -> float:
    text = element.findtext(f"bndbox/{side}", "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"object {number} has {side} {text!r}, expected a finite number")
    return value


def _raw_image(
    position: int, path: Path, annotation: _Annotation, *, ids: Mapping[str, int], counter: FindingCounter
) -> RawImage:
    boxes = []
    for number, thing in enumerate(annotation.objects, start=1):
        place = f"object {number} ({thing.name})"
        if thing.is_difficult:
            counter.add(Fault.DIFFICULT, f"{path.name}: {place}")
        boxes.append(RawBox(thing.corners, ids[thing.name], place=place, is_crowd=thing.is_difficult))
    return RawImage(image_id=position, path=path, boxes=boxes, size_hw=annotation.size_hw)
