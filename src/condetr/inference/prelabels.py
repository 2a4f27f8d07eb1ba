"""Detections as a data set, to correct in a labelling tool: in COCO, Pascal VOC, YOLO or CSV layout, or as crops."""

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from condetr.boxes import to_xywh
from condetr.config import yaml_text
from condetr.errors import InputError
from condetr.labels import LabelMap
from condetr.shapes import Detections
from condetr.storage.atomic import replaced_file, write_text

Kind = Literal["crops", "yolo", "coco", "voc", "csv"]
KINDS: tuple[Kind, ...] = get_args(Kind)
IMAGE_FOLDERS: Mapping[Kind, str] = {"yolo": "images", "coco": "images", "voc": "JPEGImages", "csv": "images"}
_SMALLEST = 1.0  # pixels of a side, below which a box is none


class Labelled(NamedTuple):
    """An image of the data set, and its boxes."""

    file_name: str
    """Within the folder of images."""
    size_hw: tuple[int, int]
    boxes_xyxy: Float[np.ndarray, "N 4"]
    """In pixels, inside of the image."""
    labels: Sequence[int]


def kinds_of(given: Sequence[str]) -> list[Kind]:
    """Return the kinds that are named, several separated by commas; raises InputError for another name."""
    names = [name.strip().lower() for each in given for name in each.split(",") if name.strip()]
    unknown = next((name for name in names if name not in KINDS), None)
    if unknown is not None or (given and not names):
        raise InputError(f"detections cannot be saved as {unknown!r}: give some of {', '.join(KINDS)}")
    return [kind for kind in KINDS if kind in names]


class Prelabels:
    """Collects labelled images and writes them in every kind that was asked for, each in a folder of its name."""

    def __init__(self, folder: Path, *, kinds: Iterable[Kind], label_map: LabelMap) -> None:
        self.folder = folder
        self.kinds = tuple(kinds)
        self.label_map = label_map
        self._images: list[Labelled] = []

    @property
    def places(self) -> list[Path]:
        """The folders that are written."""
        return [self.folder / kind for kind in self.kinds]

    def add(
        self, source: Path | bytes, *, file_name: str, pixels: UInt8[np.ndarray, "H W 3"], detections: Detections
    ) -> None:
        """Copy an image and keep its boxes, as far as they are inside of it."""
        height, width = pixels.shape[:2]
        boxes_xyxy = detections.boxes_xyxy.clip(0, np.array([width, height] * 2, np.float32)).astype(np.float64)
        is_box = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] >= _SMALLEST).all(axis=1)
        boxes_xyxy, labels = boxes_xyxy[is_box], detections.labels[is_box].tolist()
        self._images.append(Labelled(file_name, (height, width), boxes_xyxy, labels))
        for kind in self.kinds:
            if kind == "crops":
                self._write_crops(self._images[-1], pixels)
            else:
                _copy(source, self.folder / kind / IMAGE_FOLDERS[kind] / file_name)

    def finish(self) -> None:
        """Write the annotations."""
        writers: dict[Kind, Callable[[Path, Sequence[Labelled], LabelMap], None]] = {
            "yolo": write_yolo,
            "coco": write_coco,
            "voc": write_voc,
            "csv": write_csv,
        }
        for kind in self.kinds:
            if kind in writers:
                writers[kind](self.folder / kind, self._images, self.label_map)

    def _write_crops(self, image: Labelled, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        corners = np.concatenate([np.floor(image.boxes_xyxy[:, :2]), np.ceil(image.boxes_xyxy[:, 2:])], axis=1)
        for number, ((x1, y1, x2, y2), label) in enumerate(zip(corners.astype(int), image.labels, strict=True), 1):
            folder = self.folder / "crops" / _folder_name(self.label_map.names[label])
            folder.mkdir(parents=True, exist_ok=True)
            with replaced_file(folder / f"{Path(image.file_name).stem}-{number}.jpg") as draft:
                Image.fromarray(np.ascontiguousarray(pixels[y1:y2, x1:x2])).save(draft, quality=95)


def write_coco(folder: Path, images: Sequence[Labelled], label_map: LabelMap) -> None:
    """Write `annotations/instances.json`, with the category ids of the model's data."""
    _write(folder / "annotations" / "instances.json", json.dumps(coco_content(images, label_map), ensure_ascii=False))


def coco_content(images: Sequence[Labelled], label_map: LabelMap) -> dict[str, Any]:
    """Return labelled images as the content of a COCO file."""
    rows = [
        {
            "image_id": number,
            "category_id": label_map.dataset_ids[label],
            "bbox": [round(value, 2) for value in box],
            "area": round(box[2] * box[3], 2),
            "iscrowd": 0,
        }
        for number, image in enumerate(images, 1)
        for box, label in zip(to_xywh(image.boxes_xyxy).tolist(), image.labels, strict=True)
    ]
    return {
        "images": [
            {"id": number, "file_name": image.file_name, "height": image.size_hw[0], "width": image.size_hw[1]}
            for number, image in enumerate(images, 1)
        ],
        "categories": [{"id": category.dataset_id, "name": category.name} for category in label_map.categories],
        "annotations": [{"id": number, **row} for number, row in enumerate(rows, 1)],
    }


def write_yolo(folder: Path, images: Sequence[Labelled], label_map: LabelMap) -> None:
    """Write `labels/*.txt`, `data.yaml` and `classes.txt`; classes are numbered by training id."""
    for image in images:
        height, width = image.size_hw
        x1, y1, x2, y2 = image.boxes_xyxy.T
        relative = np.stack([(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height], 1)
        lines = (
            " ".join([str(label), *(f"{value:.6f}" for value in box)])
            for label, box in zip(image.labels, relative.tolist(), strict=True)
        )
        _write(folder / "labels" / f"{Path(image.file_name).stem}.txt", "".join(f"{line}\n" for line in lines))
    _write(folder / "classes.txt", "".join(f"{' '.join(name.split())}\n" for name in label_map.names))
    _write(folder / "data.yaml", yaml_text({"train": "images", "names": dict(enumerate(label_map.names))}))


def write_voc(folder: Path, images: Sequence[Labelled], label_map: LabelMap) -> None:
    """Write `Annotations/*.xml`, in whole pixels that count from 1 and include the last."""
    for image in images:
        root = ElementTree.Element("annotation")
        _add(root, {"folder": IMAGE_FOLDERS["voc"], "filename": image.file_name})
        _add(ElementTree.SubElement(root, "size"), {"width": image.size_hw[1], "height": image.size_hw[0], "depth": 3})
        for box, label in zip(image.boxes_xyxy.round().astype(int).tolist(), image.labels, strict=True):
            x1, y1, x2, y2 = _wide_enough(box)
            thing = ElementTree.SubElement(root, "object")
            _add(thing, {"name": label_map.names[label], "pose": "Unspecified", "truncated": 0, "difficult": 0})
            corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
            _add(ElementTree.SubElement(thing, "bndbox"), corners)
        ElementTree.indent(root)
        _write(folder / "Annotations" / f"{Path(image.file_name).stem}.xml", ElementTree.tostring(root, "unicode"))


def write_csv(folder: Path, images: Sequence[Labelled], label_map: LabelMap) -> None:
    """Write `annotations.csv`, a row for every box, in edges in pixels."""
    path = folder / "annotations.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft, draft.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"))
        for image in images:
            size_wh = image.size_hw[::-1]
            for box, label in zip(image.boxes_xyxy.tolist(), image.labels, strict=True):
                corners = (f"{value:.2f}" for value in box)
                writer.writerow((image.file_name, *size_wh, label_map.names[label], *corners))
            if not image.labels:
                writer.writerow((image.file_name, *size_wh, "", "", "", "", ""))


def _wide_enough(box_xyxy: Sequence[int]) -> tuple[int, int, int, int]:
    """Make a box two pixels wide and high: where both sides have one number, readers take it for a slip."""
    x1, y1, x2, y2 = box_xyxy
    x1, y1 = max(min(x1, x2 - 2), 0), max(min(y1, y2 - 2), 0)
    return x1, y1, max(x2, x1 + 2), max(y2, y1 + 2)


def _copy(source: Path | bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft:
        if isinstance(source, bytes):
            draft.write_bytes(source)
        else:
            shutil.copyfile(source, draft)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft:
        write_text(draft, text)


def _add(parent: ElementTree.Element, values: Mapping[str, object]) -> None:
    for name, value in values.items():
        ElementTree.SubElement(parent, name).text = str(value)


def _folder_name(name: str) -> str:
    """Return a class name as the name of a folder, on any system."""
    return "".join("_" if char in '<>:"/\\|?*' or ord(char) < 32 else char for char in name).strip(" .") or "_"
