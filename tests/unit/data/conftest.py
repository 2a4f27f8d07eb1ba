"""Tiny data sets of every layout."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condetr.data.dataset import ImageRecord, Split
from condetr.labels import Category, LabelMap

SIZE_WH = (64, 48)


def write_image(path: Path, *, size_wh: tuple[int, int] = SIZE_WH, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def annotation(number: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"id": number, "image_id": number, "category_id": 3, "bbox": [4, 5, 20, 10], **changes}


def coco_content(annotations: Sequence[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Three images and a box on each, of categories 3 and 7."""
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": SIZE_WH[0], "height": SIZE_WH[1]} for n in (1, 2, 3)],
        "annotations": [annotation(1), annotation(2, category_id=7), annotation(3)]
        if annotations is None
        else annotations,
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        **changes,
    }


@pytest.fixture
def coco_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes annotations/train.json and images/; keyword arguments replace parts of the JSON."""

    def write(annotations: Sequence[dict[str, Any]] | None = None, **changes: Any) -> Path:  # noqa: ANN401
        for number in (1, 2, 3):
            write_image(tmp_path / "images" / f"{number}.png", seed=number)
        write_text(tmp_path / "annotations" / "train.json", json.dumps(coco_content(annotations, **changes)))
        return tmp_path

    return write


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Twelve images, every third of them in portrait, with a box and a crowd region each."""
    records = []
    for number in range(12):
        size_wh = (24, 32) if number % 3 == 0 else (32, 24)
        path = write_image(tmp_path / f"{number}.png", size_wh=size_wh, seed=number)
        records.append(
            ImageRecord(
                image_id=100 + number,
                path=path,
                size_hw=size_wh[::-1],
                boxes_xyxy=np.array([[2.0, 3.0, 12.0, 11.0], [0.0, 0.0, 20.0, 20.0]]),
                labels=np.array([1, 0]),
                is_crowd=np.array([False, True]),
                areas=np.array([80.0, 400.0]),
            )
        )
    return Split(name="train", records=tuple(records), label_map=LabelMap((Category(3, "cat"), Category(7, "dog"))))
