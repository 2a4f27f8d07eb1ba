"""New content for the annotation files of a data set: what stays, in the data's own layout, otherwise unchanged."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from condetr.config import read_yaml, yaml_text
from condetr.data.files import absolute, is_file, read_bytes, read_lines
from condetr.data.findings import leniently
from condetr.data.layouts.coco_file import is_category, load_coco
from condetr.data.layouts.voc import listed_name, read_xml
from condetr.data.layouts.yolo_labels import images_below, label_file, listed_images
from condetr.data.raw import Source
from condetr.data.records import pixel_boxes
from condetr.doctor.decide import Corners, Decisions, KeptImage
from condetr.labels import LabelMap

OWN_LAYOUTS = frozenset({"coco", "voc", "yolo"})
"""Layouts whose copies are in the same layout; all others become COCO."""
Files = dict[Path, bytes]
Kept = Mapping[str, Sequence[KeptImage]]


class Rewritten(NamedTuple):
    """What changes among the files of a data set, by absolute paths."""

    files: Mapping[Path, bytes]
    """New content of annotation files."""
    omitted: frozenset[Path]
    """Files that would be read as data although they are no longer part of it."""


def rewrite(source: Source, decisions: Decisions, *, label_map: LabelMap) -> Rewritten:
    """Return what the data set becomes when only what was decided to keep stays; other layouts become COCO."""
    rewriters: dict[str, Callable[[Source, Kept], tuple[Files, set[Path]]]] = {
        "coco": _rewrite_coco,
        "voc": _rewrite_voc,
        "yolo": _rewrite_yolo,
    }
    if source.layout in rewriters:
        files, omitted = rewriters[source.layout](source, decisions.kept)
    else:
        files, omitted = _as_coco(source, decisions.kept, label_map)
    return Rewritten(
        files={absolute(path): content for path, content in files.items()},
        omitted=frozenset(absolute(path) for path in omitted),
    )


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
    box = _coco_box(corners)
    # The area is that of a mask where there is one: clipping a box does not change it.
    return {**annotation, **box, **_mask_area(annotation)}


def _mask_area(annotation: Mapping[str, Any]) -> dict[str, Any]:
    return {"area": annotation["area"]} if annotation.get("segmentation") and "area" in annotation else {}


def _coco_box(corners: Corners) -> dict[str, Any]:
    x1, y1, x2, y2 = corners
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}


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
    files: Files = {}
    for each in (each for some in kept.values() for each in some):
        before = 0
        for file in each.image.files:
            files[file], before = _voc_file(file, each, before=before)
    omitted = set(source.files) - files.keys() | _other_images(source, kept)
    names = {
        split: {listed_name(source.root, file) for each in some for file in each.image.files}
        for split, some in kept.items()
    }
    somewhere = set().union(*names.values())
    for split, (list_file,) in source.places.items():
        lines = [line for line in dict.fromkeys(read_lines(list_file)) if line in names.get(split, somewhere)]
        files[list_file] = _lines(lines)
    return files, omitted


def _other_images(source: Source, kept: Kept) -> set[Path]:
    """Return the images beside those that are kept, which would be read as empty where no place names the images."""
    if source.places:
        return set()
    images = {absolute(each.image.path) for some in kept.values() for each in some}
    beside = (file for folder in {image.parent for image in images} for file in images_below(folder))
    return {file for file in beside if file not in images}


def _voc_file(file: Path, kept: KeptImage, *, before: int) -> tuple[bytes, int]:
    """Return a file's new content, and how many objects it and the image's files before it held."""
    tree = read_xml(file)
    elements = tree.findall("object")
    for number, element in enumerate(elements, start=before):
        if number not in kept.boxes:
            tree.remove(element)
        else:
            _set_voc_box(element, kept.boxes[number])
    content: bytes = ElementTree.tostring(tree, encoding="utf-8")
    return content, before + len(elements)


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
    labelled = [each for images in kept.values() for each in images if is_file(each.image.files[0])]
    has_keypoints = _has_keypoints(source.description)
    files = {each.image.files[0]: _yolo_labels(each, has_keypoints=has_keypoints) for each in labelled}
    omitted = {absolute(file) for file in source.files} - {absolute(file) for file in files}
    omitted |= _other_images(source, kept)
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
    lines = read_lines(kept.image.files[0])
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
    found, _ = leniently(listed_images(file, root))
    return _lines(dict.fromkeys(os.path.relpath(path, root.absolute()) for _, path in found if path in paths))


def _yolo_description(file: Path, root: Path, places: Mapping[str, Sequence[Path]]) -> bytes:
    """Name the places relative to the file: as they stand they may lead back to the old annotations."""
    content, root = read_yaml(read_bytes(file)), root.absolute()
    names = {split: [os.path.relpath(place.absolute(), root) for place in found] for split, found in places.items()}
    return yaml_text({**content, "path": os.path.relpath(root, file.parent.absolute()), **names}).encode()


def _as_coco(source: Source, kept: Kept, label_map: LabelMap) -> tuple[Files, set[Path]]:
    """Write a COCO file for each split, in the place of the files of all others."""
    content = {
        source.root / f"annotations_{split}.json": json.dumps(_coco_content(images, source.root, label_map)).encode()
        for split, images in kept.items()
    }
    return content, set(source.files)


def _coco_content(kept: Sequence[KeptImage], root: Path, label_map: LabelMap) -> dict[str, Any]:
    images = [
        {
            "id": number,
            "file_name": Path(os.path.relpath(absolute(each.image.path), absolute(root))).as_posix(),
            "height": each.size_hw[0],
            "width": each.size_hw[1],
        }
        for number, each in enumerate(kept, start=1)
    ]
    annotations = [
        {"image_id": number, **_coco_box(corners), "category_id": dataset_id, "iscrowd": int(is_crowd)}
        for number, each in enumerate(kept, start=1)
        for dataset_id, is_crowd, corners in _kept_boxes(each)
    ]
    return {
        "images": images,
        "annotations": [
            {"id": number, "area": row["bbox"][2] * row["bbox"][3], **row} for number, row in enumerate(annotations, 1)
        ],
        "categories": [{"id": category.dataset_id, "name": category.name} for category in label_map.categories],
    }


def _kept_boxes(kept: KeptImage) -> Iterator[tuple[int, bool, Corners]]:
    corners = pixel_boxes(kept.image, size_hw=kept.size_hw).clipped.tolist()
    for box, (x1, y1, x2, y2) in zip(kept.image.boxes, corners, strict=True):
        if box.number in kept.boxes:
            yield box.dataset_id, box.is_crowd, (x1, y1, x2, y2)


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
