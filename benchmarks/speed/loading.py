"""JPEG files to padded, normalised batches, on one core: ours beside transformers' processor."""

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.speed.report import Table
from benchmarks.speed.timing import alternate
from condetr.data.dataset import ImageRecord, Split
from condetr.data.loader import eval_loader, train_loader
from condetr.data.transforms import PaperTransformConfig
from condetr.labels import Category, LabelMap
from condetr.optimize.machine import keep_memory
from tests.parity.peers import hf

BATCH = 2


def measure(*, quick: bool) -> Table:
    """Time the same work in one process and thread each: decode, resize to 800/1333, normalise, pad."""
    torch.set_num_threads(1)
    keep_memory()  # otherwise transformers takes up to twice as long, depending on the state of the heap
    images = 4 if quick else 16
    with tempfile.TemporaryDirectory() as folder:
        split = write_images(Path(folder), count=images)
        transform = PaperTransformConfig()
        evaluation = eval_loader(split, transform.build_eval(), batch_size=BATCH)
        training = train_loader(split, transform.build_train(), batch_size=BATCH, seed=0)
        runs: dict[str, Callable[[], object]] = {
            "transformers, resize to 800/1333": _transformers(split, "DetrImageProcessor"),
            "transformers, same with PIL": _transformers(split, "DetrImageProcessorPil"),
            "ours, resize to 800/1333": lambda: sum(len(batch.image_ids) for batch in evaluation),
            "ours, the paper's augmentation": lambda: sum(len(batch.image_ids) for batch in training.epoch(0)),
        }
        seconds = alternate(runs, rounds=1 if quick else 5)
    theirs = min(value for name, value in seconds.items() if name.startswith("transformers"))
    return Table(
        name="loading",
        title="Loading JPEG files of 480 x 640, one core",
        columns=("", "images a second", "ratio to transformers' faster one"),
        rows=[(name, images / value, theirs / value) for name, value in seconds.items()],
        headline={
            "resize over transformers": theirs / seconds["ours, resize to 800/1333"],
            "augmentation over transformers' resize": theirs / seconds["ours, the paper's augmentation"],
        },
        notes=[
            "transformers' processor does not augment; files are opened by PIL for it, as in its examples",
            "in a process that keeps the memory it frees; where it does not, transformers may take twice as long",
        ],
    )


def _transformers(split: Split, name: str) -> Callable[[], int]:
    processor: Any = getattr(hf, name)(size={"shortest_edge": 800, "longest_edge": 1333})

    def run() -> int:
        total = 0
        for first in range(0, len(split), BATCH):
            records = split.records[first : first + BATCH]
            images = [Image.open(record.path).convert("RGB") for record in records]
            total += len(processor(images=images, annotations=_annotations(records), return_tensors="pt")["labels"])
        return total

    return run


def _annotations(records: tuple[ImageRecord, ...]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": record.image_id,
            "annotations": [
                {"bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": 0, "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                for x1, y1, x2, y2 in record.boxes_xyxy.tolist()
            ],
        }
        for record in records
    ]


def write_images(folder: Path, *, count: int) -> Split:
    """Write photographs of a kind: smooth fields with some noise, which compress like photographs."""
    rng, shapes = np.random.default_rng(0), random.Random(0)
    records = []
    for number in range(count):
        size_hw = (480, 640) if shapes.random() < 0.7 else (640, 480)
        coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size_hw[::-1], Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number}.jpg", quality=90)
        boxes_xyxy = np.array([[20, 30, 200, 300], [100, 50, 400, 450]], dtype=np.float32)
        records.append(
            ImageRecord(
                image_id=number,
                path=folder / f"{number}.jpg",
                size_hw=size_hw,
                boxes_xyxy=boxes_xyxy,
                labels=np.zeros(2, dtype=np.int64),
                is_crowd=np.zeros(2, dtype=bool),
                areas=(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1),
            )
        )
    return Split(name="train", records=tuple(records), label_map=LabelMap((Category(0, "thing"),)))
