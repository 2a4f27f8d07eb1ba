"""Pascal VOC: XML files for every image, in folders of any name, and lists of image names for every split.

VOC counts pixels from 1 and includes the last one, so a box from 1 to 5 covers five pixels. As the field's tools do,
`xmin` and `ymin` are lowered by one while `xmax` and `ymax` stay: the box becomes the edges 0 to 5. Where both are
the same number nothing is lowered: such a box is a slip of the mouse, not an object one pixel wide, and has no area.

An XML file belongs to the image of its name; `<filename>` counts where there is none, as renamed files and tools that
write a wrong one are common. Splits come from `ImageSets/Main`, otherwise from the names of folders.
"""

import math
import re
import reprlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from condetr.data.files import read_bytes, read_lines
from condetr.data.findings import Fault, Note, Reading, refused
from condetr.data.index import Index, folder_of, name_of, stem
from condetr.data.pairs import ALL, Pair, Pairs, find_pairs, own_name, roles_of, split_names, told_splits
from condetr.data.raw import RawBox, RawData, RawImage, Source
from condetr.errors import InputError
from condetr.labels import Category, LabelMap

_LARGEST_COORDINATE = 1e9
_MARKED = re.compile(r".*\s(1|-1|0)")  # a line of a list of one class: in it, not in it, only difficult ones of it
_ROOT = re.compile(rb"<(?![?!])([\w.-]+)")
_USUAL = ("annotations", "annotation", "annots", "xml", "xmls")
_LISTS = ("ImageSets/Main", "ImageSets")
_LOOKED_AT = 3  # files of a folder that tell what it holds


class _Object(NamedTuple):
    name: str
    corners: tuple[float, float, float, float]
    is_difficult: bool


class _Annotation(NamedTuple):
    """What one file says; the same for a copy of it."""

    objects: Mapping[int, _Object]
    """By their position in the file; faulty ones are missing."""
    num_objects: int
    size_hw: tuple[int, int] | None
    filename: str


@dataclass(frozen=True, kw_only=True)
class _Data:
    pairs: Pairs
    lists: Mapping[str, Sequence[str]]
    """The image names of every split; empty where folders name the splits."""
    list_root: str
    """The folder that holds the lists' `ImageSets`."""
    splits: Mapping[str, str]
    """The split of each annotation file, where folders name them."""
    left_out: Sequence[str]
    """Folders of annotations that are of no split."""


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds elements, and refuses declarations, which annotations never need and attacks with entities do."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError(f"it declares a document type {name!r}, which annotations must not")


def find_voc(index: Index) -> Source | None:
    """Recognise XML files whose root is `annotation`, in folders of any name or beside the images."""
    files = _annotation_files(index)
    if not files:
        return None
    roots = {
        folder.removesuffix(lists).rstrip("/"): folder
        for lists in reversed(_LISTS)
        for folder in index.folders
        if f"/{folder}".endswith(f"/{lists}") and any(name.endswith(".txt") for name in index.folders[folder])
    }
    roots = {root: folder for root, folder in roots.items() if any(_below(file, root) for file in files)}
    kits = {root for file in files if (root := _kit(file)) is not None}
    if len(roots) > 1 or len(kits) > 1:
        several = ", ".join(str(index.path(root)) for root in sorted({*roots, *kits}))
        raise InputError(f"{index.root} has several VOC data sets, give one of them: {several}")
    pairs = find_pairs(index, files)
    if not pairs.pairs and pairs.unclear:
        raise next(iter(pairs.unclear.values()))
    ((root, folder),) = roots.items() or (("", ""),)
    lists = _split_lists(index, folder, [_listed_name(pair.file) for pair in pairs.pairs]) if roots else {}
    data = _by_lists(pairs, lists, root) if lists else _by_folders(pairs)
    names = tuple(lists) or tuple(dict.fromkeys(data.splits.values())) or (ALL,)
    return Source(
        layout="voc",
        root=index.path(root),
        understood=f"Pascal VOC: {pairs.told('XML', 'XML')}; {told_splits(names)}",
        splits=names,
        places={split: (index.path(folder) / f"{split}.txt",) for split in lists},
        image_folders=pairs.image_folders(),
        num_images=len(pairs.images()),
        read=partial(_read, data),
        files=tuple(index.path(file) for file in files),
    )


def _kit(file: str) -> str | None:
    """Return the folder of a data set as the challenge published it, which years have apart, of an annotation file."""
    match = re.match(r"((?:.*/)?VOC\d{4})/", file)
    return match.group(1) if match else None


def _below(file: str, folder: str) -> bool:
    return not folder or file.startswith(f"{folder}/")


def _annotation_files(index: Index) -> list[str]:
    """Return the XML files of every folder in which the first ones are annotations, or cannot be read but should be."""
    by_folder: dict[str, list[str]] = {}
    for file in index.ending_in(".xml"):
        by_folder.setdefault(folder_of(file), []).append(file)
    return [file for folder, files in by_folder.items() if _holds_annotations(index, folder, files) for file in files]


def _holds_annotations(index: Index, folder: str, files: Sequence[str]) -> bool:
    roots = [_root_tag(index.path(file)) for file in files[:_LOOKED_AT]]
    if b"annotation" in roots:
        return True
    is_usual = any(part.lower() in _USUAL for part in folder.split("/"))
    return is_usual and any(root not in (b"annotations", b"svg", b"html") for root in roots)


def _root_tag(file: Path) -> bytes:
    try:
        match = _ROOT.search(read_bytes(file, most=2000))
    except InputError:
        return b""
    return match.group(1) if match else b""


def listed_name(root: Path, file: Path) -> str:
    """Return the name by which lists know the image of an annotation file: its path in `Annotations`, no ending."""
    return _listed_name(file.relative_to(root).as_posix())


def _listed_name(file: str) -> str:
    parts = file.split("/")
    lowered = [part.lower() for part in parts[:-1]]
    first = next((number for number, part in enumerate(lowered) if part in _USUAL), len(parts) - 2)
    return "/".join((*parts[first + 1 : -1], own_name(file)))


def _split_lists(index: Index, folder: str, annotated: Sequence[str]) -> dict[str, list[str]]:
    """Return the image names of every split: the lines of its list, which may hold blanks and may be none at all."""
    known = frozenset(annotated)
    lists = {}
    for name in index.folders[folder]:
        if name.endswith(".txt"):
            names = [stem(line) for line in read_lines(index.path(folder) / name) if line]
            if not _is_of_one_class(names, known):
                lists[name.removesuffix(".txt")] = names
    return lists


def _is_of_one_class(lines: Sequence[str], annotated: Container[str]) -> bool:
    """Tell VOC's lists of one class (`cat_train.txt`), with a mark behind each name, from names such as `photo 1`."""
    return bool(lines) and all(_MARKED.fullmatch(line) and line not in annotated for line in lines)


def _by_lists(pairs: Pairs, lists: Mapping[str, Sequence[str]], root: str) -> _Data:
    return _Data(pairs=pairs, lists=lists, list_root=root, splits={}, left_out=())


def _by_folders(pairs: Pairs) -> _Data:
    """Divide annotation files by the names of folders; those without a role are for training, unless others are."""
    roles = roles_of(pairs)
    named = split_names(path for pair in pairs.pairs for path in (pair.place.folder, folder_of(pair.image)))
    has_train = "train" in roles.values() or "trainval" in roles.values()
    rest = ALL if not any(roles.values()) else None if has_train else "train"
    splits = {file: named[each] if each else rest for file, each in roles.items()}
    left_out = dict.fromkeys(folder_of(file) for file, split in splits.items() if split is None)
    return _Data(
        pairs=pairs,
        lists={},
        list_root="",
        splits={file: split for file, split in splits.items() if split is not None},
        left_out=tuple(left_out),
    )


def _read(data: _Data, splits: Sequence[str]) -> Reading[RawData]:
    index = data.pairs.resolver.index
    yield from data.pairs.notes()
    for folder in data.left_out:
        yield Note(Fault.UNUSED_FOLDER, folder)
    # Of every split, so that the ids do not depend on which one is opened.
    annotations = yield from _parse_all([pair.file for pair in data.pairs.pairs], index)
    found = [
        _by_content(pair, annotations[pair.file], data.pairs) for pair in data.pairs.pairs if pair.file in annotations
    ]
    pairs = data.pairs.with_pairs((yield from _without_copies(found, data.splits, annotations)))
    for image in pairs.images():
        for other in pairs.resolver.namesakes(image):
            yield Note(Fault.NAMESAKE, other)
    grouped = yield from _listed(data, pairs, splits) if data.lists else _divided(data, pairs, annotations)
    ids = yield from _class_ids(annotations.values(), index)
    label_map = LabelMap(tuple(Category(number, name) for name, number in ids.items()), ids_are_counted=True)
    images: dict[str, list[RawImage]] = {split: [] for split in splits}
    for split in splits:
        for number, (image, files) in enumerate(grouped.get(split, {}).items()):
            images[split].append((yield from _raw_image(number, image, files, annotations, index=index, ids=ids)))
    return RawData(label_map=label_map, images=images)


def _by_content(pair: Pair, annotation: _Annotation, pairs: Pairs) -> Pair:
    """Look for the image that the content of a file names, where none has the name of the file."""
    if pair.match is not None or not annotation.filename:
        return pair
    try:
        return replace(pair, match=pairs.resolver.image(annotation.filename, pair.place, base=pair.base))
    except InputError:
        return pair  # then its own name is told as missing


def _without_copies(
    pairs: Sequence[Pair], splits: Mapping[str, str], annotations: Mapping[str, _Annotation]
) -> Reading[list[Pair]]:
    """Leave out folders whose annotations all stand in another folder of their split, under the same names."""
    folders: dict[tuple[str, str], dict[str, Pair]] = {}
    for pair in pairs:
        folders.setdefault((splits.get(pair.file, ALL), pair.place.folder), {})[own_name(pair.file)] = pair
    kept: dict[tuple[str, str], dict[str, Pair]] = {}
    for (split, folder), mine in folders.items():
        others = [theirs for (other, _), theirs in kept.items() if other == split]
        if any(_is_copy(mine, theirs, annotations) for theirs in others):
            yield Note(Fault.COPIED, folder, count=len(mine))
        else:
            kept[split, folder] = mine
    return [pair for some in kept.values() for pair in some.values()]


def _is_copy(mine: Mapping[str, Pair], theirs: Mapping[str, Pair], annotations: Mapping[str, _Annotation]) -> bool:
    same = all(
        name in theirs and annotations[pair.file] == annotations[theirs[name].file] and pair.image != theirs[name].image
        for name, pair in mine.items()
    )
    return same and any(annotations[pair.file].objects for pair in mine.values())


def _divided(
    data: _Data, pairs: Pairs, annotations: Mapping[str, _Annotation]
) -> Reading[dict[str, dict[str, list[str]]]]:
    """Return the images of every split as folders name them, each with its annotation files."""
    grouped: dict[str, dict[str, list[str]]] = {split: {} for split in data.splits.values()}
    for pair in pairs.pairs:
        split = data.splits.get(pair.file)
        if split is None:
            continue
        files = grouped[split].setdefault(pair.image, [])
        version = next((file for file in files if _annotate_the_same(annotations[file], annotations[pair.file])), None)
        if version is not None:
            told = f"{version} and {pair.file} mark the same objects in {pair.image}: leave one version"
            yield refused(Fault.AMBIGUOUS, told)
            continue
        if files:
            yield Note(Fault.JOINED, pair.image)
        files.append(pair.file)
    yield from pairs.notes_of_unannotated()
    _add_unannotated(pairs, grouped)
    return grouped


def _annotate_the_same(one: _Annotation, other: _Annotation) -> bool:
    """Tell whether most objects of a file stand in another one, too: then both are versions, not parts."""
    mine = list(other.objects.values())
    same = [thing for thing in mine if any(_are_same(thing, theirs) for theirs in one.objects.values())]
    return 2 * len(same) > len(mine)


def _are_same(one: _Object, other: _Object) -> bool:
    """Tell whether two boxes are of one class and share more than half of their area (IoU)."""
    if one.name != other.name:
        return False
    sides = [min(one.corners[i + 2], other.corners[i + 2]) - max(one.corners[i], other.corners[i]) for i in (0, 1)]
    overlap = max(sides[0], 0) * max(sides[1], 0)
    return overlap > 0.5 * (_area(one) + _area(other) - overlap)


def _area(thing: _Object) -> float:
    x1, y1, x2, y2 = thing.corners
    return max(x2 - x1, 0) * max(y2 - y1, 0)


def _add_unannotated(pairs: Pairs, grouped: dict[str, dict[str, list[str]]]) -> None:
    """Take images beside annotated ones as empty: LabelImg writes no file where nothing is marked. Unless most are."""
    if pairs.most_are_unannotated:
        return
    of_folder = {folder_of(image): split for split, images in grouped.items() for image in images}
    for image in pairs.unannotated:
        folder = folder_of(image)
        while folder and folder not in of_folder:
            folder = folder_of(folder)
        if folder in of_folder:
            grouped[of_folder[folder]][image] = []


def _listed(data: _Data, pairs: Pairs, splits: Sequence[str]) -> Reading[dict[str, dict[str, list[str]]]]:
    """Return the images of some splits as lists name them."""
    by_name: dict[str, list[Pair]] = {}
    listed = {name for some in data.lists.values() for name in some}
    for pair in pairs.pairs:
        if not _below(pair.file, data.list_root) or _listed_name(pair.file) not in listed:
            yield Note(Fault.NOT_LISTED, pair.image)
        else:
            by_name.setdefault(_listed_name(pair.file), []).append(pair)
    names = {}
    for split in splits:
        names[split] = yield from _once(data.lists[split], split)
    known = {_listed_name(pair.file) for pair in data.pairs.pairs}  # those that cannot be read were told
    missing = sorted({name for some in names.values() for name in some} - known)
    yield from _refuse_missing(missing, data)
    return {
        split: {pair.image: [each.file for each in by_name[name]] for name in some for pair in by_name.get(name, ())}
        for split, some in names.items()
    }


def _once(names: Sequence[str], split: str) -> Reading[list[str]]:
    times = Counter(names)
    for name, count in times.items():
        if count > 1:
            yield Note(Fault.REPEATED_IMAGE, f"{split}.txt: {name}", count=count - 1)
    return list(times)


def _refuse_missing(names: Sequence[str], data: _Data) -> Iterator[Note]:
    folder = data.pairs.resolver.index.path(data.pairs.pairs[0].place.folder)
    for name in names:
        refusal = f"{folder} lacks {len(names)} listed files, the first: {names[0]}.xml"
        yield Note(Fault.NO_ANNOTATION, f"{folder} lacks the listed file {name}.xml", refusal=refusal)


def _class_ids(annotations: Iterable[_Annotation], index: Index) -> Reading[dict[str, int]]:
    classes = sorted({thing.name for annotation in annotations for thing in annotation.objects.values()})
    if not classes:
        yield refused(Fault.NOTHING, f"the annotations in {index.root} hold no object")
    return {name: number for number, name in enumerate(classes, start=1)}


def _parse_all(files: Sequence[str], index: Index) -> Reading[dict[str, _Annotation]]:
    annotations = {}
    for file in files:
        try:
            tree = read_xml(index.path(file))
        except InputError as error:
            yield refused(Fault.FAULTY_FILE, error)
            continue
        elements = tree.findall("object")
        annotations[file] = _Annotation(
            objects=(yield from _objects(elements, index.path(file))),
            num_objects=len(elements),
            size_hw=_size_hw(tree),
            filename=tree.findtext("filename", "").strip(),
        )
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


def _objects(elements: Sequence[ElementTree.Element], file: Path) -> Reading[dict[int, _Object]]:
    objects = {}
    for number, element in enumerate(elements):
        try:
            objects[number] = _object(element)
        except InputError as error:
            yield refused(Fault.FAULTY_ENTRY, f"{file} is not a usable annotation: object {number + 1} {error}")
    return objects


def _object(element: ElementTree.Element) -> _Object:
    name = element.findtext("name", "").strip()
    if not name:
        raise InputError("has no name")
    if element.find("bndbox") is None:
        raise InputError("has no bndbox")
    x1, y1, x2, y2 = (_coordinate(element, side) for side in ("xmin", "ymin", "xmax", "ymax"))
    is_difficult = element.findtext("difficult", "0").strip() == "1"
    corners = (x1 - 1 if x1 < x2 else x1, y1 - 1 if y1 < y2 else y1, x2, y2)
    return _Object(name=name, corners=corners, is_difficult=is_difficult)


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
    number: int,
    image: str,
    files: Sequence[str],
    annotations: Mapping[str, _Annotation],
    *,
    index: Index,
    ids: Mapping[str, int],
) -> Reading[RawImage]:
    boxes, before = [], 0
    for file in files:
        for position, thing in annotations[file].objects.items():
            place = f"object {position + 1} ({thing.name})"
            if len(files) > 1:
                place = f"{file}: {place}"
            if thing.is_difficult:
                yield Note(Fault.DIFFICULT, f"{name_of(image)}: {place}")
            boxes.append(
                RawBox(
                    thing.corners, ids[thing.name], place=place, number=before + position, is_crowd=thing.is_difficult
                )
            )
        before += annotations[file].num_objects
    return RawImage(
        image_id=number,
        path=index.path(image),
        boxes=boxes,
        files=tuple(index.path(file) for file in files),
        number=number,
        size_hw=next((annotations[file].size_hw for file in files), None),
    )
