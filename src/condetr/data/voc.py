"""Pascal VOC: one XML file for every image, and lists of image names for every split.

VOC counts pixels from 1 and includes the last one, so a box from 1 to 5 covers five pixels. As the field's tools do,
`xmin` and `ymin` are lowered by one while `xmax` and `ymax` stay: the box becomes the edges 0 to 5. Where both are
the same number nothing is lowered: such a box is a slip of the mouse, not an object one pixel wide, and has no area.
"""

import math
import reprlib
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

_LARGEST_COORDINATE = 1e9
_WITHOUT_LISTS = "all"  # name of the only split where ImageSets/Main is missing


class _Object(NamedTuple):
    number: int
    name: str
    corners: tuple[float, float, float, float]
    is_difficult: bool


class _Annotation(NamedTuple):
    file: Path
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
    return Source(
        layout="voc",
        root=root,
        splits=tuple(lists),
        places={split: (_list_file(root, split),) for split in lists if split != _WITHOUT_LISTS},
        read=partial(_read, root, lists),
    )


def _list_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


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
    present = _all_names(root, lists)
    _refuse_missing({name for split in splits for name in names[split]} - set(present), root=root, counter=counter)
    annotations = _parse_all([_annotation_file(root, name) for name in present], counter)
    # Over every split, so that the ids do not depend on which one is opened.
    classes = sorted({thing.name for annotation in annotations.values() for thing in annotation.objects})
    if not classes:
        counter.refuse(Fault.NOTHING, f"the annotations in {root / 'Annotations'} hold no object")
    ids = {name: number for number, name in enumerate(classes, start=1)}
    files = _image_files(root)
    return RawData(
        label_map=LabelMap(tuple(Category(number, name) for name, number in ids.items())),
        images={
            split: [
                _raw_image(position, _image_path(root, name, files), annotations[name], ids=ids, counter=counter)
                for position, name in enumerate(names[split])
                if name in annotations
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


def _refuse_missing(names: set[str], *, root: Path, counter: FindingCounter) -> None:
    missing = sorted(names)
    if missing and counter.on_error == "raise":
        raise InputError(f"{root / 'Annotations'} lacks {len(missing)} listed files, the first: {missing[0]}.xml")
    for name in missing:
        counter.add(Fault.NO_ANNOTATION, f"{root / 'Annotations'} lacks the listed file {name}.xml")


def _annotation_file(root: Path, name: str) -> Path:
    return path_inside(root / "Annotations", f"{name}.xml")


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


def _parse_all(files: Sequence[Path], counter: FindingCounter) -> dict[str, _Annotation]:
    annotations = {}
    for file in files:
        try:
            tree = read_xml(file)
        except InputError as error:
            counter.refuse(Fault.FAULTY_FILE, error)
            continue
        annotations[file.stem] = _Annotation(file, objects=_objects(tree, file, counter), size_hw=_size_hw(tree))
    return annotations


def read_xml(file: Path) -> ElementTree.Element:
    """Parse an annotation file; raises InputError where it is no XML or declares a document type."""
    try:
        return ElementTree.fromstring(read_bytes(file), parser=ElementTree.XMLParser(target=_NoDoctype()))
    # A declared encoding that does not exist is a LookupError; one that expat cannot use is a ValueError.
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise InputError(f"{file} is not a usable annotation: {error}") from None


def _size_hw(tree: ElementTree.Element) -> tuple[int, int] | None:
    height, width = (_side(tree.findtext(f"size/{side}", "")) for side in ("height", "width"))
    return (height, width) if height and width else None


def _side(text: str) -> int:
    """Return the pixels that a text states, 0 where it states nothing that a side can have."""
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _objects(tree: ElementTree.Element, file: Path, counter: FindingCounter) -> tuple[_Object, ...]:
    objects = []
    for number, element in enumerate(tree.iterfind("object")):
        try:
            objects.append(_object(element, number))
        except InputError as error:
            counter.refuse(Fault.FAULTY_ENTRY, f"{file} is not a usable annotation: object {number + 1} {error}")
    return tuple(objects)


def _object(element: ElementTree.Element, number: int) -> _Object:
    name = element.findtext("name", "").strip()
    if not name:
        raise InputError("has no name")
    x1, y1, x2, y2 = (_coordinate(element, side) for side in ("xmin", "ymin", "xmax", "ymax"))
    is_difficult = element.findtext("difficult", "0").strip() == "1"
    corners = (x1 - 1 if x1 < x2 else x1, y1 - 1 if y1 < y2 else y1, x2, y2)
    return _Object(number=number, name=name, corners=corners, is_difficult=is_difficult)


def _coordinate(element: ElementTree.Element, side: str) -> float:
    text = element.findtext(f"bndbox/{side}", "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST_COORDINATE:  # nan is not
        raise InputError(f"has {side} {reprlib.repr(text)}, expected a finite number")
    return value


def _raw_image(
    position: int, path: Path, annotation: _Annotation, *, ids: Mapping[str, int], counter: FindingCounter
) -> RawImage:
    boxes = []
    for thing in annotation.objects:
        place = f"object {thing.number + 1} ({thing.name})"
        if thing.is_difficult:
            counter.add(Fault.DIFFICULT, f"{path.name}: {place}")
        boxes.append(
            RawBox(thing.corners, ids[thing.name], place=place, number=thing.number, is_crowd=thing.is_difficult)
        )
    return RawImage(
        image_id=position,
        path=path,
        boxes=boxes,
        file=annotation.file,
        number=position,
        size_hw=annotation.size_hw,
    )
