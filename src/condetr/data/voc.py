"""Pascal VOC: one XML file for every image, and lists of image names for every split.

VOC counts pixels from 1 and includes the last one, so a box from 1 to 5 covers five pixels. As the field's tools do,
`xmin` and `ymin` are lowered by one while `xmax` and `ymax` stay: the box becomes the edges 0 to 5. Where both are
the same number nothing is lowered: such a box is a slip of the mouse, not an object one pixel wide, and has no area.
"""

import math
import re
import reprlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from condetr.data.files import files_below, read_bytes, read_lines
from condetr.data.findings import Fault, FindingCounter
from condetr.data.images import SUFFIXES
from condetr.data.records import RawBox, RawData, RawImage, Source
from condetr.errors import InputError
from condetr.labels import Category, LabelMap

_LARGEST_COORDINATE = 1e9
_MARKED = re.compile(r".*\s(1|-1|0)")  # a line of a list of one class: in it, not in it, only difficult ones of it
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
    """Recognise a folder with `Annotations/**/*.xml`, itself or in `VOCdevkit/VOC2007` and the like below it."""
    folders = (path, *sorted(path.glob("VOC*")), *sorted(path.glob("VOCdevkit/VOC*")))
    roots = {root: files for root in folders if (files := annotation_files(root))}
    if not roots:
        return None
    if len(roots) > 1:
        raise InputError(f"{path} has several VOC data sets, give one of them: {', '.join(map(str, roots))}")
    ((root, annotated),) = roots.items()
    lists = _split_lists(root, annotated)
    return Source(
        layout="voc",
        root=root,
        splits=tuple(lists) or (_WITHOUT_LISTS,),
        places={split: (_list_file(root, split),) for split in lists},
        read=partial(_read, root, lists, annotated),
    )


def annotation_files(root: Path) -> dict[str, Path]:
    """Return every annotation file by its name, which is its path in `Annotations` without the ending."""
    return _first_of_each(_by_name(root / "Annotations", frozenset({".xml"})))


def annotation_name(root: Path, file: Path) -> str:
    """Return the name of an annotation file, by which lists know the image."""
    return _name(root / "Annotations", file)


def image_files(root: Path) -> dict[str, Path]:
    """Return every image by its name, which is its path in `JPEGImages` without the ending."""
    return _first_of_each(_by_name(root / "JPEGImages", SUFFIXES))


def _by_name(folder: Path, suffixes: frozenset[str]) -> dict[str, list[Path]]:
    named = defaultdict(list)
    for file in files_below(folder) if folder.is_dir() else ():
        if file.suffix.lower() in suffixes:
            named[_name(folder, file)].append(file)
    return named


def _first_of_each(named: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    return {name: files[0] for name, files in named.items()}


def _name(folder: Path, file: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _list_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _split_lists(root: Path, annotated: Container[str]) -> dict[str, list[str]]:
    """Return the image names of every split: the lines of its list, which may hold blanks and may be none at all."""
    lists = {}
    for file in sorted((root / "ImageSets" / "Main").glob("[!.]*.txt")):
        names = [line for line in read_lines(file) if line]
        if not _is_of_one_class(names, annotated):
            lists[file.stem] = names
    return lists


def _is_of_one_class(lines: Sequence[str], annotated: Container[str]) -> bool:
    """Tell VOC's lists of one class (`cat_train.txt`), with a mark behind each name, from names such as `photo 1`."""
    return bool(lines) and all(_MARKED.fullmatch(line) and line not in annotated for line in lines)


def _read(
    root: Path,
    lists: Mapping[str, list[str]],
    annotated: Mapping[str, Path],
    splits: Sequence[str],
    counter: FindingCounter,
) -> RawData:
    files = _image_files(root, counter)
    listed = lists or {_WITHOUT_LISTS: sorted({*annotated, *files})}
    names = {split: _once(listed[split], split, counter) for split in splits}
    # Over every split, so that the ids do not depend on which one is opened.
    everywhere = dict.fromkeys(name for some in listed.values() for name in some)
    annotations = _parse_all({name: annotated[name] for name in everywhere if name in annotated}, counter)
    missing = sorted({name for some in names.values() for name in some if name not in annotated})
    if lists:
        _refuse_missing(missing, root=root, counter=counter)
    else:
        annotations |= _without_objects({name: files[name] for name in missing}, root=root, counter=counter)
    ids = _class_ids(annotations.values(), root=root, counter=counter)
    return RawData(
        label_map=LabelMap(tuple(Category(number, name) for name, number in ids.items()), ids_are_counted=True),
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


def _refuse_missing(names: Sequence[str], *, root: Path, counter: FindingCounter) -> None:
    if names and counter.on_error == "raise":
        raise InputError(f"{root / 'Annotations'} lacks {len(names)} listed files, the first: {names[0]}.xml")
    for name in names:
        counter.add(Fault.NO_ANNOTATION, f"{root / 'Annotations'} lacks the listed file {name}.xml")


def _without_objects(images: Mapping[str, Path], *, root: Path, counter: FindingCounter) -> dict[str, _Annotation]:
    """Take images as empty that no list and no annotation names: LabelImg writes no file where nothing is marked."""
    for image in images.values():
        counter.add(Fault.UNANNOTATED, image.relative_to(root).as_posix())
    files = {name: root / "Annotations" / f"{name}.xml" for name in images}
    return {name: _Annotation(file, objects=(), size_hw=None) for name, file in files.items()}


def _class_ids(annotations: Iterable[_Annotation], *, root: Path, counter: FindingCounter) -> dict[str, int]:
    classes = sorted({thing.name for annotation in annotations for thing in annotation.objects})
    if not classes:
        counter.refuse(Fault.NOTHING, f"the annotations in {root / 'Annotations'} hold no object")
    return {name: number for number, name in enumerate(classes, start=1)}


def _image_files(root: Path, counter: FindingCounter) -> dict[str, Path]:
    if not (root / "JPEGImages").is_dir():
        raise InputError(f"{root} has annotations but no folder JPEGImages with the images")
    named = _by_name(root / "JPEGImages", SUFFIXES)
    for _, *namesakes in named.values():
        for file in namesakes:
            counter.add(Fault.NAMESAKE, file.relative_to(root).as_posix())
    return _first_of_each(named)


def _image_path(root: Path, name: str, files: Mapping[str, Path]) -> Path:
    return files.get(name) or root / "JPEGImages" / f"{name}.jpg"


def _parse_all(files: Mapping[str, Path], counter: FindingCounter) -> dict[str, _Annotation]:
    annotations = {}
    for name, file in files.items():
        try:
            tree = read_xml(file)
        except InputError as error:
            counter.refuse(Fault.FAULTY_FILE, error)
            continue
        annotations[name] = _Annotation(file, objects=_objects(tree, file, counter), size_hw=_size_hw(tree))
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
