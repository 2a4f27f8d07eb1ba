"""Writers of the layouts in which people publish data: each image has one box, the same everywhere."""

import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

BOX = (4, 5, 24, 15)
"""Corners of every box, in images of 64x48."""


def picture(path: Path, *, form: str | None = None) -> None:
    """Write an image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format=form)


def text(path: Path, content: str) -> None:
    """Write a file and the folders around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def xml(path: Path, *, filename: str = "", name: str = "cat", size: tuple[int, int] = (64, 48)) -> None:
    """Write an annotation of Pascal VOC, which counts pixels from 1."""
    x1, y1, x2, y2 = BOX
    box = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    text(
        path,
        f"<annotation><filename>{filename}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"<object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>",
    )


def coco(path: Path, *names: str) -> None:
    """Write a COCO file of some images, with ids from 0."""
    x1, y1, x2, y2 = BOX
    ids = range(len(names))
    content = {
        "images": [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "category_id": 0, "bbox": [x1, y1, x2 - x1, y2 - y1]} for i in ids],
        "categories": [{"id": 0, "name": "cat"}],
    }
    text(path, json.dumps(content))


def label(path: Path, number: int = 0) -> None:
    """Write a label file of YOLO."""
    x1, y1, x2, y2 = BOX
    text(path, f"{number} {(x1 + x2) / 128} {(y1 + y2) / 96} {(x2 - x1) / 64} {(y2 - y1) / 48}\n")
