"""Images with ground truth and predictions side by side: the best and the worst by F1, and a few at random."""

import base64
import io
import random
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from condetr.data.dataset import ImageRecord, Split
from condetr.data.images import read_image
from condetr.errors import InputError
from condetr.inference.drawing import draw_side_by_side
from condetr.metrics.matching import image_f1
from condetr.shapes import Detections

PER_GROUP = 4
LARGEST_WH = (1280, 900)
"""Larger images are scaled down, to keep the page small."""


class Picture(NamedTuple):
    """One image of the gallery."""

    data_uri: str
    caption: str


class Group(NamedTuple):
    """Images that were chosen for the same reason."""

    title: str
    pictures: tuple[Picture, ...]


def make_gallery(split: Split, detections: Mapping[int, Detections], *, threshold: float) -> tuple[Group, ...]:
    """Return up to four pictures of a kind; images that cannot be read are skipped."""
    f1 = image_f1(split, detections, threshold=threshold)
    records = {record.image_id: record for record in split.records}
    ranked = sorted(f1, key=lambda image_id: (f1[image_id], -len(records[image_id].labels), image_id))
    worst, best = ranked[: len(ranked) // 2][:PER_GROUP], ranked[(len(ranked) + 1) // 2 :][-PER_GROUP:][::-1]
    others = [image_id for image_id in records if image_id not in {*worst, *best}]
    chosen = {"Worst": worst, "Best": best, "At random": random.Random(0).sample(others, min(PER_GROUP, len(others)))}
    groups = (
        Group(title, tuple(_pictures([records[i] for i in ids], detections, split=split, f1=f1, threshold=threshold)))
        for title, ids in chosen.items()
    )
    return tuple(group for group in groups if group.pictures)


def _pictures(
    records: list[ImageRecord],
    detections: Mapping[int, Detections],
    *,
    split: Split,
    f1: Mapping[int, float],
    threshold: float,
) -> list[Picture]:
    pictures = []
    for record in records:
        try:
            image = Image.fromarray(read_image(record.path).permute(1, 2, 0).numpy())
        except InputError:
            continue
        found = detections.get(record.image_id, NOTHING).above(threshold)
        sheet = draw_side_by_side(image, record, found, label_map=split.label_map)
        score = f"F1 {f1[record.image_id]:.2f}" if record.image_id in f1 else "nothing there, nothing found"
        sheet.thumbnail(LARGEST_WH)
        pictures.append(Picture(data_uri(sheet), f"{record.path.name} · {score}"))
    return pictures


def data_uri(picture: Image.Image) -> str:
    """Return a picture as a JPEG data URI."""
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


NOTHING = Detections(
    boxes_xyxy=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), labels=np.zeros(0, np.int64), names=()
)
