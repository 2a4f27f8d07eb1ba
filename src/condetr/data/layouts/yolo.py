"""YOLO: a text file for every image, a line for every box; see `yolo_labels` for the lines.

Splits and class names come from a YAML file or Darknet's `obj.data`, otherwise from the names of folders, lists of
images and `classes.txt`. As in Ultralytics' tools, the labels of `images/a/1.jpg` are in `labels/a/1.txt`, or beside
the image where its path has no folder `images`, and no file means no box.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

from condetr.data.files import absolute, files_below, is_file, read_lines
from condetr.data.findings import Fault, Note, Reading, leniently, places_of, refused
from condetr.data.index import SUFFIXES, Index, folder_of, is_image, name_of, spelling, stem
from condetr.data.layouts.yolo_description import Description, Splits, description_file, read_description, read_names
from condetr.data.layouts.yolo_labels import (
    LineFormat,
    class_ids,
    holds_a_box,
    holds_polygons,
    images_below,
    is_label_line,
    label_file,
    lines_of,
    listed_images,
    read_boxes,
)
from condetr.data.pairs import ALL, Pairs, find_pairs, own_name, roles_of, split_names, told_splits
from condetr.data.raw import RawData, RawImage, Source
from condetr.data.resolve import Place, Resolver, role_of
from condetr.data.splits import role
from condetr.errors import InputError
from condetr.labels import Category, LabelMap

_DEEPEST = 2  # folders below the root in which descriptions are looked for
_SPLIT_FOLDERS = ("images/{}", "labels/{}"), ("{}/images", "{}/labels")
_ROLES = ("train", "val", "test", "trainval")
_SPLIT_WORDS = ("train", "val", "test", "dev")
_NAMES_FILES = ("classes.txt", "predefined_classes.txt", "names.txt", "_darknet.labels")
_FIRST = 200  # images of a folder, of which one has a label file in most data
_LOOKED_AT = 5  # files of a folder that tell what it holds


@dataclass(frozen=True, kw_only=True)
class _Data:
    """Images by split, each with its label file."""

    root: Path
    names: Mapping[int, str] | None
    splits: Splits
    understood: str
    description: Description | None = None
    pairs: Pairs | None = None
    """Label files with their images, where places alone do not tell them."""
    left_out: Sequence[Path] = ()
    """Folders with images and labels that are no split."""
    unused: Sequence[str] = ()
    """Lists that are not read."""
    elsewhere: Sequence[str] = ()
    """Labelled images that the chosen folders do not reach."""
    missing_images: Sequence[str] = ()
    """Lines of the lists that are read for which there is no image."""
    not_listed: Sequence[str] = ()
    """Labelled images that no list names."""

    @cached_property
    def labels(self) -> Mapping[Path, Path]:
        """The label file of each image, where places alone do not tell it."""
        found = () if self.pairs is None else self.pairs.pairs
        path = (lambda file: file) if self.pairs is None else self.pairs.resolver.index.path
        return {path(pair.image).absolute(): path(pair.file).absolute() for pair in found if pair.match is not None}

    def source(self, *, images: Sequence[Path]) -> Source:
        names = (*self.splits.places, *self.splits.missing)
        return Source(
            layout="yolo",
            root=self.root,
            understood=f"YOLO: {self.understood}; {told_splits(names)}",
            splits=names,
            places={} if self.pairs else self.splits.places,
            image_folders=frozenset(folder.resolve() for folder in {image.parent for image in images}),
            num_images=len(images),
            description=self.description.file if self.description else None,
            read=partial(_read, self),
            files=tuple(self.labels.values()),
        )


def yolo_file(path: Path) -> Source:
    """Return the data set that a YAML file or Darknet's `obj.data` describes."""
    return _from_description(read_description(path), None)


def find_yolo(index: Index) -> Source | None:
    """Recognise a file that describes data, `images/` and `labels/` folders, or label files like images in name."""
    at_root = description_file(index.root, index.folders[""])
    if at_root is not None:
        return _require_labels(_from_description(read_description(at_root), index))
    return _described_below(index) or _usual_folders(index) or _paired(index)


def _from_description(description: Description, index: Index | None) -> Source:
    """Return the data of a description; with an index, labelled images that it does not reach are told."""
    places = description.splits.places
    folders = {place.resolve() for some in places.values() for place in some if place.is_dir()}
    told = ", ".join(
        f"{split} in {' and '.join(os.path.relpath(place, description.root) for place in some)}"
        for split, some in places.items()
    )
    data = _Data(
        root=description.root,
        names=description.names,
        splits=description.splits,
        understood=f"{description.file.name} with {told}",
        description=description,
    )
    images = [file for folder in folders for file in images_below(folder)]
    only_folders = all(place.is_dir() for some in places.values() for place in some)
    if index is not None and only_folders:
        data = replace(data, elsewhere=_labelled_elsewhere(index, images))
    return data.source(images=images)


def _require_labels(source: Source) -> Source:
    """Refuse a description of data whose labels are not here, as other annotations may be."""
    folders = (place for some in source.places.values() for place in some if place.is_dir())
    if any(is_file(label_file(image, source.root)) for folder in folders for image in images_below(folder)[:_FIRST]):
        return source
    _, notes = leniently(source.read(list(source.places)[:1]))
    for sentence in places_of(notes, Fault.NOTHING):
        raise InputError(f"{source.description}: {sentence}")
    return source


def _described_below(index: Index) -> Source | None:
    """Take the description in a folder below; of several for the same images the one with boxes, not polygons."""
    found: list[tuple[Path, Source]] = []
    refused: list[InputError] = []
    for folder, names in index.folders.items():
        if folder and folder.count("/") < _DEEPEST:
            try:
                file = description_file(index.path(folder), names)
                if file is not None:
                    found.append((file, _require_labels(yolo_file(file))))
            except InputError as error:
                refused.append(error)
    if not found and refused:
        raise refused[0]
    if not found:
        return None
    with_boxes = [(file, source) for file, source in found if not _is_of_polygons(source)]
    usable = with_boxes or found
    if len(usable) > 1:
        several = ", ".join(os.path.relpath(file, index.root) for file, _ in usable)
        raise InputError(f"{index.root} has several files that describe YOLO data: give the one to use of {several}")
    file, source = usable[0]
    others = [os.path.relpath(other, index.root) for other, _ in found if other != file]
    why = f"; it holds boxes, {', '.join(others)} polygons of the same kind of data" if others else ""
    told = source.understood.replace(f"YOLO: {file.name}", f"YOLO: {os.path.relpath(file, index.root)}", 1)
    return replace(source, understood=f"{told}{why}")


def _is_of_polygons(source: Source) -> bool:
    """Tell by the first labels of the data whether its objects are outlined rather than boxed."""
    for place in (place for some in source.places.values() for place in some if place.is_dir()):
        for image in images_below(place)[: 4 * _LOOKED_AT]:
            file = label_file(image, source.root)
            lines = [line for line in read_lines(file) if line] if is_file(file) else []
            if lines:
                return len(lines[0].split()) > 5
    return False


def _usual_folders(index: Index) -> Source | None:
    """Recognise `images/` beside `labels/`, with the names of splits in them or around them."""
    splits, left_out = _split_folders(index.root)
    if not splits.places:
        return None
    names = _class_names(index)
    folders = {place for some in splits.places.values() for place in some}
    images = [file for folder in folders for file in images_below(folder)]
    told = ", ".join(os.path.relpath(place, index.root) for some in splits.places.values() for place in some)
    lists = _image_lists(index)
    if tuple(splits.places) == (ALL,) and lists:
        listed = _largest_division(index, lists, frozenset(file for file in index.images if file.startswith("images/")))
        splits = splits._replace(places={own_name(file): [index.path(file)] for file in listed} or splits.places)
        told += f", divided by {' and '.join(listed)}" if listed else ""
    data = _Data(
        root=index.root,
        names=names,
        splits=splits,
        left_out=left_out,
        understood=f"images in {told}, labels beside",
        unused=[file for file in lists if own_name(file) not in splits.places],
        elsewhere=_labelled_elsewhere(
            index, [*images, *(file for folder in left_out for file in images_below(folder))]
        ),
    )
    return data.source(images=images)


def _labelled_elsewhere(index: Index, images: Sequence[Path]) -> list[str]:
    """Return labelled images that the chosen folders do not reach: another set beside this one, or a part of it."""
    reached = {os.path.realpath(image) for image in images}
    pairs = find_pairs(index, _label_files(index)).pairs
    labelled = dict.fromkeys(pair.match.file for pair in pairs if pair.match is not None)
    return [file for file in labelled if os.path.realpath(index.path(file)) not in reached]


def _split_folders(path: Path) -> tuple[Splits, Sequence[Path]]:
    """Find `images/train` or `train/images` beside their labels, or a single folder `images` beside `labels`."""
    for images, labels in _SPLIT_FOLDERS:
        found = {name: path / images.format(name) for name in _folder_names(path, images)}
        labelled = [name for name in found if (path / labels.format(name)).is_dir()]
        places = {name: [found[name]] for name in labelled if _is_split_name(name)}
        if places:
            bare = [name for name in found if name not in labelled and _is_split_name(name)]
            loose = [path / "images"] if _holds_labelled_images(path / "images", root=path) else []
            missing = {name: _unlabelled(name, found[name], path / labels.format(name)) for name in bare}
            return Splits(places, missing), [*loose, *(found[name] for name in labelled if name not in places)]
    is_single = (path / "images").is_dir() and (path / "labels").is_dir()
    return Splits({ALL: [path / "images"]} if is_single else {}, missing={}), ()


def _folder_names(path: Path, pattern: str) -> list[str]:
    """Return what stands for `{}` in folders of a pattern such as `images/{}`: training, validation, test, others."""
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


def _paired(index: Index) -> Source | None:
    """Recognise label files that are called like images: beside them, or in folders of any name."""
    files = _label_files(index)
    pairs = find_pairs(index, files)
    images: dict[str, str] = {}
    for pair in pairs.pairs:
        if pair.match is not None and images.setdefault(pair.match.file, pair.file) != pair.file:
            other = images[pair.match.file]
            raise InputError(
                f"{index.path(other)} and {pair.file} both hold labels of {pair.match.file}: leave one of them"
            )
    if not images and pairs.unclear:
        raise next(iter(pairs.unclear.values()))
    if not images:
        return None
    everything = [*images, *(() if pairs.most_are_unannotated else pairs.unannotated)]
    splits, lists, left_out = _divided(index, everything, roles_of(pairs), images)
    used = {file: lines for file, lines in lists.items() if own_name(file) in splits}
    listed = {image for some in splits.values() for image in some}
    data = _Data(
        root=index.root,
        names=_class_names(index),
        splits=Splits({name: [index.path(file) for file in files] for name, files in splits.items()}, missing={}),
        understood=pairs.told("label file", "label files") + (f"; divided by {' and '.join(used)}" if used else ""),
        pairs=pairs,
        left_out=[index.path(folder) for folder in left_out],
        unused=[file for file in lists if file not in used],
        missing_images=[
            f"{file}: {line}" for file, lines in used.items() for line in lines if not _is_here(line, index)
        ],
        not_listed=[image for image in images if image not in listed] if used else (),
    )
    return data.source(images=[index.path(file) for file in images])


def _label_files(index: Index) -> list[str]:
    """Return the text files of every folder in which the first ones with a line hold boxes."""
    by_folder: dict[str, list[str]] = {}
    for file in index.ending_in(".txt"):
        by_folder.setdefault(folder_of(file), []).append(file)
    found = []
    for files in by_folder.values():
        named = [file for file in files if spelling(own_name(file)) in index.images_by_stem]
        if _hold_boxes(index, named):
            found += [file for file in files if file in named or holds_a_box(index.path(file))]
    return found


def _hold_boxes(index: Index, files: Sequence[str]) -> bool:
    looked_at = 0
    for file in files:
        lines = lines_of(index.path(file))
        if lines:
            if any(map(is_label_line, lines)):
                return True
            looked_at += 1
        if looked_at == _LOOKED_AT:
            break
    return False


class _Division(NamedTuple):
    """Images by split, and what else was seen."""

    splits: dict[str, list[str]]
    lists: Mapping[str, Sequence[str]]
    """The lines of every list of images."""
    left_out: Sequence[str] = ()
    """Folders with labelled images that are of no split."""


def _divided(
    index: Index, images: Sequence[str], roles: Mapping[str, str | None], labels: Mapping[str, str]
) -> "_Division":
    """Divide images by the names of folders, otherwise by lists of images."""
    of_image = {image: roles.get(labels.get(image, ""), role_of(folder_of(image))) for image in images}
    lists = _image_lists(index)
    splits: dict[str, list[str]] = {}
    if not any(of_image.values()):
        for file, found in _largest_division(index, lists, frozenset(images)).items():
            splits.setdefault(own_name(file), []).extend(found)
        return _Division(splits or {ALL: list(images)}, lists)
    named = split_names(path for image in images for path in (folder_of(labels.get(image, image)), folder_of(image)))
    rest = None if {"train", "trainval"} & set(of_image.values()) else "train"
    left_out: dict[str, None] = {}
    for image, each in of_image.items():
        name = named[each] if each else rest
        if name is None:
            left_out[folder_of(image)] = None
        else:
            splits.setdefault(name, []).append(image)
    return _Division(splits, lists, left_out=list(left_out))


def _is_here(line: str, index: Index) -> bool:
    return spelling(stem(name_of(line.replace("\\", "/")))) in index.images_by_stem


def _image_lists(index: Index) -> dict[str, list[str]]:
    """Return the lines of text files that name images and are called like splits."""
    lists = {}
    for file in index.ending_in(".txt"):
        if role_of(own_name(file)) is not None and spelling(own_name(file)) not in index.images_by_stem:
            lines = lines_of(index.path(file))
            if lines and all(is_image(line) for line in lines[:_LOOKED_AT]):
                lists[file] = lines
    return lists


def _largest_division(index: Index, lists: Mapping[str, Sequence[str]], images: frozenset[str]) -> dict[str, list[str]]:
    """Return the images of lists that belong together, as `train3.txt` and `test3.txt` do; of several, the most."""
    resolver = Resolver(index)
    divisions: dict[str, dict[str, list[str]]] = {}
    for file, lines in lists.items():
        place = Place(folder_of(file), None)
        base = resolver.base(lines, place)
        found = [match.file for line in lines if (match := resolver.image(line, place, base=base)) is not None]
        key = "".join(letter for letter in name_of(file) if letter.isdigit())
        divisions.setdefault(key, {})[file] = [image for image in dict.fromkeys(found) if image in images]
    several = [{file: found for file, found in some.items() if found} for some in divisions.values()]
    several = [division for division in several if len(division) > 1]  # one list alone divides nothing
    return max(several, key=lambda division: len({image for some in division.values() for image in some}), default={})


def _class_names(index: Index) -> Mapping[int, str] | None:
    """Return the names that a text file gives; raise InputError where several differ."""
    files = [file for file in index.files if name_of(file).lower() in _NAMES_FILES or file.lower().endswith(".names")]
    if not files:
        return None
    found = {file: read_names(index.path(file)) for file in files if not _is_of_numbers(index.path(file))}
    if len({tuple(names.values()) for names in found.values()}) > 1:
        raise InputError(
            f"{index.root} has several files of class names that differ, so that numbers mean different classes: "
            f"{', '.join(list(found)[:5])}; leave the one that all labels follow, or give one folder of the data"
        )
    return next(iter(found.values()), None)


def _is_of_numbers(file: Path) -> bool:
    """Tell labels of an image that is called `classes` from names."""
    return any(len(words) > 4 and all(map(_is_number, words)) for words in map(str.split, lines_of(file)))


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).lstrip("-").isdecimal()


def _read(data: _Data, splits: Sequence[str]) -> Reading[RawData]:
    if data.names is not None and (not data.names or any(not name.strip() for name in data.names.values())):
        raise InputError(f"the YOLO data in {data.root} has a class without a name")
    yield from _notes_of_found(data)
    paths: dict[str, list[Path]] = {}
    for split in splits:
        if split in data.splits.missing:
            yield refused(Fault.MISSING_SPLIT, data.splits.missing[split])
        else:
            paths[split] = yield from _image_paths(data, split)
    lines = {}
    for split, some in paths.items():
        lines[split] = yield from _label_lines(data, split, some)
    names = data.names or (yield from _numbered(data, lines))
    label_map = LabelMap(tuple(Category(number, names[number]) for number in sorted(names)))
    line_format = LineFormat(
        class_ids=frozenset(label_map.training_ids),
        num_keypoint_numbers=data.description.num_keypoint_numbers if data.description else 0,
        has_polygons=any(map(holds_polygons, lines.values())),
    )
    images = {}
    for split, some in paths.items():
        images[split] = yield from _raw_images(some, lines[split], data=data, line_format=line_format)
    yield from _notes_of_left_out(data, images)
    return RawData(label_map=label_map, images=images)


def _notes_of_found(data: _Data) -> Iterator[Note]:
    for path in data.splits.elsewhere:
        yield Note(Fault.PLACE_ELSEWHERE, path)
    for name in data.unused:
        yield Note(Fault.NOT_READ, name)
    for image in data.elsewhere:
        yield Note(Fault.NOT_REACHED, image)
    for line in data.missing_images:
        yield Note(Fault.UNREADABLE, line)
    for image in data.not_listed:
        yield Note(Fault.NOT_LISTED, image)
    if data.pairs is not None:
        yield from data.pairs.notes()
        yield from data.pairs.notes_of_unannotated()
    said = data.description.num_classes if data.description else None
    if data.names is not None and said is not None and said != len(data.names):
        assert data.description is not None
        yield Note(Fault.FEWER_NAMES, f"{data.description.file.name}: nc is {said}, names are {len(data.names)}")


def _numbered(data: _Data, lines: Mapping[str, Mapping[Path, Sequence[str]]]) -> Reading[dict[int, str]]:
    """Call classes by their numbers, over all splits, so that the classes do not depend on which one is opened."""
    others = [split for split in data.splits.places if split not in lines]
    everything = [*lines.values(), *(leniently(_lines_of_split(data, split))[0] for split in others)]
    said = data.description.num_classes if data.description else None
    numbers = {number for some in everything for number in class_ids(some)} | set(range(said or 0))
    if not numbers:
        yield refused(Fault.NOTHING, f"the YOLO data in {data.root} has no box and no class names")
    names = {number: f"class {number}" for number in sorted(numbers)}
    yield Note(Fault.UNNAMED_CLASS, "add a classes.txt with a name a line", count=max(1, len(names)))
    return names


def _lines_of_split(data: _Data, split: str) -> Reading[dict[Path, Sequence[str]]]:
    return (yield from _label_lines(data, split, (yield from _image_paths(data, split))))


def _image_paths(data: _Data, split: str) -> Reading[list[Path]]:
    files: list[Path] = []
    for place in data.splits.places[split]:
        files += [place] if data.pairs else (yield from _image_files(place, data))
    unique = list(dict.fromkeys(files))
    if len(unique) < len(files):
        yield Note(Fault.REPEATED_IMAGE, split, count=len(files) - len(unique))
    return (yield from _first_of_each(unique, data))


def _first_of_each(images: Sequence[Path], data: _Data) -> Reading[list[Path]]:
    """Of images with the same label file, which differ in their ending alone, take the first."""
    files = {image: _label_of(image, data) for image in images}
    seen: set[Path] = set()
    kept = []
    for image, file in files.items():
        if file in seen and is_file(file):
            yield Note(Fault.NAMESAKE, os.path.relpath(image, data.root))
        else:
            kept.append(image)
        seen.add(file)
    return kept


def _label_of(image: Path, data: _Data) -> Path:
    known = data.labels.get(image.absolute())
    if known is not None:
        return known
    usual = label_file(image, data.root)
    others = (usual, usual.with_suffix(".TXT"), image.with_suffix(".txt"))
    return next((file for file in others if is_file(file)), usual)


def _label_lines(data: _Data, split: str, images: Sequence[Path]) -> Reading[dict[Path, Sequence[str]]]:
    """Return the lines of each image's label file, none where there is no file; images with faulty ones are missing."""
    files = {image: _label_of(image, data) for image in images}
    if images and not any(map(is_file, files.values())):
        files = yield from _labels_elsewhere(split, files)
    lines: dict[Path, Sequence[str]] = {}
    for image, file in files.items():
        try:
            lines[image] = read_lines(file) if is_file(file) else []
        except InputError as error:
            yield refused(Fault.FAULTY_FILE, error)
    return lines


def _labels_elsewhere(split: str, files: Mapping[Path, Path]) -> Reading[dict[Path, Path]]:
    """Look for labels in a folder whose name differs in case alone; refuse a split that has none at all."""
    for other in ("Labels", "LABELS", "label", "Label"):
        renamed = {image: Path(str(file).replace("/labels/", f"/{other}/")) for image, file in files.items()}
        if any(map(is_file, renamed.values())):
            yield Note(Fault.OTHER_LABELS_FOLDER, f"{split}: there is no folder labels/, so {other}/ is read")
            return renamed
    folder = next(iter(files.values())).parent
    what = "no label file for any image" if folder.is_dir() else "no such folder"
    yield refused(
        Fault.NOTHING, f"the split {split!r} has no labels: they should be in {folder}, where there is {what}"
    )
    return dict(files)


def _notes_of_left_out(data: _Data, images: Mapping[str, Sequence[RawImage]]) -> Iterator[Note]:
    root = absolute(data.root)
    for folder in data.left_out:
        yield Note(Fault.UNUSED_FOLDER, os.path.relpath(folder, root))
    places = data.splits.places
    if data.pairs is not None:
        orphans = [data.root / pair.file for pair in data.pairs.pairs if pair.match is None]
        orphans = [file.absolute() for file in orphans if holds_a_box(file)]
    else:
        orphans = [file for split, found in images.items() for file in _orphans(places[split], found, root=data.root)]
    for file in dict.fromkeys(orphans):  # splits may share a folder
        yield Note(Fault.ORPHAN_LABELS, os.path.relpath(file, root))


def _raw_images(
    paths: Sequence[Path],
    lines: Mapping[Path, Sequence[str]],
    *,
    data: _Data,
    line_format: LineFormat,
) -> Reading[list[RawImage]]:
    images = []
    for number, path in enumerate(paths):
        if path in lines:
            file = _label_of(path, data)
            boxes = yield from read_boxes(lines[path], file, line_format)
            images.append(
                RawImage(image_id=number, path=path, boxes=boxes, files=(file,), number=number, is_relative=True)
            )
    return images


def _orphans(places: Sequence[Path], images: Sequence[RawImage], *, root: Path) -> Iterator[Path]:
    """Yield the label files with boxes that lie where those of image folders do, but belong to none of the images."""
    labelled = {file for image in images for file in image.files}
    for place in places:
        folder = label_file(place.absolute() / "any", root).parent
        if place.is_dir() and folder.is_dir():
            files = (file for file in files_below(folder) if file.suffix.lower() == ".txt" and file not in labelled)
            yield from (file for file in files if file.name != "classes.txt" and holds_a_box(file))


def _image_files(place: Path, data: _Data) -> Reading[list[Path]]:
    if place.is_dir():
        return images_below(place)
    return [path for _, path in (yield from listed_images(place, data.root))]
