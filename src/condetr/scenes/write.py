"""A drawn data set on disk, in COCO layout."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from condetr.errors import InputError
from condetr.labels import Category
from condetr.scenes.draw import DrawnObject, SplitName, StampMaker, draw_scene

_Job = tuple[SplitName, int]
_Objects = tuple[DrawnObject, ...]

_WORTH_A_POOL = 256  # images; starting processes costs more than it saves below


def write_coco(
    folder: Path,
    *,
    make_stamp: StampMaker,
    categories: Sequence[Category],
    num_images: int,
    val_images: int,
    seed: int,
    size: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Draw scenes and write them as COCO: `images/*.jpg`, `annotations/train.json` and, if any, `val.json`.

    A scene depends only on `seed`, its split and its number. The folder appears complete or not at all. Raises
    InputError if it exists and is not empty, or if a number is out of range.
    """
    _check(folder, num_images=num_images, val_images=val_images, size=size)
    unfinished = folder.with_name(f".{folder.name}.unfinished-{os.getpid()}")
    draw = partial(_write_scene, folder=unfinished / "images", make_stamp=make_stamp, seed=seed, size=size)
    try:
        (unfinished / "images").mkdir(parents=True)
        (unfinished / "annotations").mkdir()
        drawn = _draw_all(draw, num_images=num_images, val_images=val_images, progress=progress)
        for split, scenes in drawn.items():
            if scenes:
                content = _coco_content(split, scenes, categories=categories, size=size)
                (unfinished / "annotations" / f"{split}.json").write_text(json.dumps(content))
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check(folder: Path, *, num_images: int, val_images: int, size: int) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder: give a new one")
    if num_images < 1 or val_images < 0:
        raise InputError(
            f"a data set needs at least one training image, got {num_images} and {val_images} for validation"
        )
    if not 32 <= size <= 4096:
        raise InputError(f"the side of an image must be 32 to 4096 pixels, got {size}")


def _draw_all(
    draw: Callable[[_Job], _Objects], *, num_images: int, val_images: int, progress: Callable[[int, int], None] | None
) -> dict[SplitName, list[_Objects]]:
    jobs: list[_Job] = [("train", index) for index in range(num_images)]
    jobs += [("val", index) for index in range(val_images)]
    drawn: dict[SplitName, list[_Objects]] = {"train": [], "val": []}
    for done, ((split, _), objects) in enumerate(zip(jobs, _run(draw, jobs), strict=True), start=1):
        drawn[split].append(objects)
        if progress is not None:
            progress(done, len(jobs))
    return drawn


def _run(draw: Callable[[_Job], _Objects], jobs: Sequence[_Job]) -> Iterator[_Objects]:
    """Draw in several processes if that is faster; forking is safe because only numpy and Pillow run there."""
    if len(jobs) < _WORTH_A_POOL or not sys.platform.startswith("linux"):
        yield from map(draw, jobs)
        return
    processes, context = len(os.sched_getaffinity(0)), multiprocessing.get_context("fork")
    # Ctrl-C reaches every process: only this one handles it, by ending the others.
    with context.Pool(processes, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        yield from pool.imap(draw, jobs, chunksize=16)


def _write_scene(job: _Job, *, folder: Path, make_stamp: StampMaker, seed: int, size: int) -> _Objects:
    split, index = job
    rng = np.random.default_rng([seed, {"train": 0, "val": 1}[split], index])
    scene = draw_scene(rng, split=split, make_stamp=make_stamp, size=size)
    Image.fromarray(scene.image).save(folder / _file_name(split, index), quality=92, subsampling=0)
    return scene.objects


def _file_name(split: SplitName, index: int) -> str:
    return f"{split}_{index:06d}.jpg"


def _coco_content(
    split: SplitName, scenes: Sequence[_Objects], *, categories: Sequence[Category], size: int
) -> dict[str, Any]:
    placed = [(index + 1, thing) for index, things in enumerate(scenes) for thing in things]
    return {
        "images": [
            {"id": index + 1, "file_name": _file_name(split, index), "width": size, "height": size}
            for index in range(len(scenes))
        ],
        "annotations": [_annotation(number, *where) for number, where in enumerate(placed, start=1)],
        "categories": [{"id": category.dataset_id, "name": category.name} for category in categories],
    }


def _annotation(number: int, image_id: int, thing: DrawnObject) -> dict[str, Any]:
    x1, y1, x2, y2 = thing.box_xyxy
    return {
        "id": number,
        "image_id": image_id,
        "category_id": thing.dataset_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": thing.area,
        "iscrowd": 0,
    }
