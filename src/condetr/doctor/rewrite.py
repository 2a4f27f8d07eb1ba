"""New content for the annotation files of a data set: what stays, in the data's own layout, otherwise unchanged."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from condetr.config import read_yaml, yaml_text
from condetr.data.coco_file import is_category, load_coco
from condetr.data.files import is_file, read_bytes, read_lines
from condetr.data.records import Source
from condetr.data.voc import annotation_files, annotation_name, image_files, read_xml
from condetr.data.yolo import images_below, label_file, listed_image
from condetr.doctor.decide import Corners, Decisions, KeptImage
from condetr.errors import InputError

Files = dict[Path, bytes]
Kept = Mapping[str, Sequence[KeptImage]]


class Rewritten(NamedTuple):
    """What changes among the files of a data set, by absolute paths."""

    files: Mapping[Path, bytes]
    """New content of annotation files."""
    omitted: frozenset[Path]
    """Files that would be read as data although they are no longer part of it."""


def rewrite(source: Source, decisions: Decisions) -> Rewritten:
    """Return what the data set becomes when only what was decided to keep stays."""
    rewriters: dict[str, Callable[[Source, Kept], tuple[Files, set[Path]]]] = {
        "coco": _rewrite_coco,
        "voc": _rewrite_voc,
        "yolo": _rewrite_yolo,
    }
    files, omitted = rewriters[source.layout](source, decisions.kept)
    return Rewritten(
        files={absolute(path): content for path, content in files.items()},
        omitted=frozenset(absolute(path) for path in omitted),
    )


def absolute(path: Path) -> Path:
    """Return a path from the root on, without following links."""
    return Path(os.path.normpath(path.absolute()))


def _rewrite_coco(source: Source, kept: Kept) -> tuple[Files, set[Path]]:
    files = {split: file for split, (file,) in source.places.items()}
    return {files[split]: _coco_file(files[split], images) for split, images in kept.items()}, set()


def _coco_file(file: Path, kept: Sequence[KeptImage]) -> bytes:
    content = load_coco(file)
    numbers = {each.image.number for each in kept}
    boxes = {number: corners for each in kept for number, corners in each.boxes.items()}
    classes = {category["id"]: category for category in reversed(content["categories"]) if is_category(category)}
    annotations = [
        _coco_annotation(content["annotations"][number], corners) for number, corners in sorted(boxes.items())
    ]
    return json.dumps(
        {
            **content,
            "images": [image for number, image in enumerate(content["images"]) if number in numbers],
            "annotations": _renumbered(annotations),
            "categories": [classes[dataset_id] for dataset_id in sorted(classes)],
        },
        ensure_ascii=False,
    ).encode()


def _coco_annotation(annotation: dict[str, Any], corners: Corners | None) -> dict[str, Any]:
    if corners is None:
        return annotation
    x1, y1, x2, y2 = corners
    box = {"bbox": [x1, y1, x2 - x1, y2 - y1]}
    # The area is that of a mask where there is one: clipping a box does not change it.
    return (
        {**annotation, **box}
        if annotation.get("segmentation")
        else {**annotation, **box, "area": (x2 - x1) * (y2 - y1)}
    )


def _renumbered(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give annotations whose id another one has a new id."""
    unused = 1 + max((annotation["id"] for annotation in annotations if annotation.get("id") is not None), default=0)
    seen: set[int] = set()
    renumbered = []
    for annotation in annotations:
        if annotation.get("id") in seen:
            annotation, unused = {**annotation, "id": unused}, unused + 1
        if annotation.get("id") is not None:
            seen.add(annotation["id"])
        renumbered.append(annotation)
    return renumbered


def _rewrite_voc(source: Source, kept: Kept) -> tuple[Files, set[Path]]:
    # An image without an annotation file has none in the copy either.
    files = {each.image.file: _voc_file(each) for some in kept.values() for each in some if is_file(each.image.file)}
    names = {split: {annotation_name(source.root, each.image.file) for each in some} for split, some in kept.items()}
    somewhere = set().union(*names.values())
    omitted = {file for name, file in annotation_files(source.root).items() if name not in somewhere}
    if not source.places:  # then every image would be read as data
        omitted |= {file for name, file in image_files(source.root).items() if name not in somewhere}
    for split, (file,) in source.places.items():
        lines = [line for line in dict.fromkeys(read_lines(file)) if line in names.get(split, somewhere)]
        files[file] = _lines(lines)
    return files, omitted


def _voc_file(kept: KeptImage) -> bytes:
    tree = read_xml(kept.image.file)
    for number, element in enumerate(tree.findall("object")):
        if number not in kept.boxes:
            tree.remove(element)
        else:
            _set_voc_box(element, kept.boxes[number])
    content: bytes = ElementTree.tostring(tree, encoding="utf-8")
    return content


def _set_voc_box(element: ElementTree.Element, corners: Corners | None) -> None:
    if corners is None:
        return
    x1, y1, x2, y2 = corners
    # VOC counts pixels from 1, and its boxes include the last one.
    for side, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
        place = element.find(f"bndbox/{side}")
        assert place is not None
        place.text = f"{value:g}"


def _rewrite_yolo(source: Source, kept: Kept) -> tuple[Files, set[Path]]:
    labelled = [each for images in kept.values() for each in images if is_file(each.image.file)]
    has_keypoints = _has_keypoints(source.description)
    files = {each.image.file: _yolo_labels(each, has_keypoints=has_keypoints) for each in labelled}
    omitted: set[Path] = set()
    somewhere = {each.image.path for images in kept.values() for each in images}
    new_places = dict(source.places)
    for split, places in source.places.items():
        paths = {each.image.path for each in kept.get(split, ())}
        for place in places:
            if place.is_file():
                files[place] = _yolo_list(place, source.root, paths)
                continue
            gone = {path for path in images_below(place) if path not in paths}
            omitted |= {file for path in gone - somewhere for file in (path, label_file(path, source.root))}
            if gone & somewhere:  # a folder cannot say that: the split becomes a list
                listed = source.root / f"{split}.cleaned.txt"
                files[listed] = _lines(os.path.relpath(path, source.root.absolute()) for path in sorted(paths))
                new_places[split] = [listed]
    if source.description is not None:
        files[source.description] = _yolo_description(source.description, source.root, new_places)
    return files, omitted


def _has_keypoints(description: Path | None) -> bool:
    return description is not None and bool(read_yaml(read_bytes(description)).get("kpt_shape"))


def _yolo_labels(kept: KeptImage, *, has_keypoints: bool) -> bytes:
    lines = read_lines(kept.image.file)
    written = [
        _yolo_line(lines[number], corners, kept.size_hw, has_keypoints=has_keypoints)
        for number, corners in kept.boxes.items()
    ]
    return _lines(written)


def _yolo_line(line: str, corners: Corners | None, size_hw: tuple[int, int], *, has_keypoints: bool) -> str:
    words = line.split()
    if corners is None:
        return line
    if len(words) > 5 and not has_keypoints:  # a polygon
        return " ".join([words[0], *(f"{min(max(float(word), 0), 1):.6f}" for word in words[1:])])
    (height, width), (x1, y1, x2, y2) = size_hw, corners
    numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join([words[0], *(f"{number:.6f}" for number in numbers), *words[5:]])


def _yolo_list(file: Path, root: Path, paths: set[Path]) -> bytes:
    kept = []
    for line in read_lines(file):
        with suppress(InputError):  # names that lead out of the folder
            path = listed_image(line, file, root) if line else None
            kept += [os.path.relpath(path, root.absolute())] if path in paths else []
    return _lines(dict.fromkeys(kept))


def _yolo_description(file: Path, root: Path, places: Mapping[str, Sequence[Path]]) -> bytes:
    """Name the places relative to the file: as they stand they may lead back to the old annotations."""
    content, root = read_yaml(read_bytes(file)), root.absolute()
    names = {split: [os.path.relpath(place.absolute(), root) for place in found] for split, found in places.items()}
    return yaml_text({**content, "path": os.path.relpath(root, file.parent.absolute()), **names}).encode()


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
