"""Images with ground truth and predictions side by side: the best and the worst by F1, and a few at random."""

import base64
import io
import random
from collections.abc import Mapping
from typing import NamedTuple

from PIL import Image

from condetr.data.dataset import ImageRecord, Split
from condetr.data.images import read_image
from condetr.errors import InputError
from condetr.inference.drawing import draw_judged
from condetr.metrics.errors import judge
from condetr.shapes import NOTHING, Detections

PER_GROUP = 4
LARGEST_WH = (640, 900)
"""Larger images are scaled down, to keep the page small."""


class Picture(NamedTuple):
    """A picture with its caption."""

    data_uri: str
    caption: str


class Judged(NamedTuple):
    """One image of the gallery."""

    sides: tuple[Picture, ...]
    """Ground truth and prediction."""
    caption: str
    page: str = ""
    """Where the explorer of the image lies, if there is one."""


class Group(NamedTuple):
    """Images that were chosen for the same reason."""

    title: str
    pictures: tuple[Judged, ...]


def worst_and_best(split: Split, f1: Mapping[int, float]) -> dict[str, list[ImageRecord]]:
    """Return up to four images with the lowest and with the highest F1, the extreme ones first."""
    records = {record.image_id: record for record in split.records}
    ranked = sorted(f1, key=lambda image_id: (f1[image_id], -len(records[image_id].labels), image_id))
    worst, best = ranked[: len(ranked) // 2][:PER_GROUP], ranked[(len(ranked) + 1) // 2 :][-PER_GROUP:][::-1]
    return {title: [records[image_id] for image_id in ids] for title, ids in (("worst", worst), ("best", best))}


def make_gallery(
    split: Split,
    detections: Mapping[int, Detections],
    extremes: Mapping[str, list[ImageRecord]],
    *,
    f1: Mapping[int, float],
    threshold: float,
    pages: Mapping[int, str],
) -> tuple[Group, ...]:
    """Return the extremes and some images at random, up to four of a kind; those that cannot be read are skipped.

    `pages` has the place of the explorer of some images, by their id.
    """
    chosen = dict(extremes)
    taken = {record.image_id for records in chosen.values() for record in records}
    others = [record for record in split.records if record.image_id not in taken]
    chosen["at random"] = random.Random(0).sample(others, min(PER_GROUP, len(others)))
    groups = (
        Group(
            title.capitalize(),
            tuple(_pictures(records, detections, split=split, f1=f1, threshold=threshold, pages=pages)),
        )
        for title, records in chosen.items()
    )
    return tuple(group for group in groups if group.pictures)


def _pictures(
    records: list[ImageRecord],
    detections: Mapping[int, Detections],
    *,
    split: Split,
    f1: Mapping[int, float],
    threshold: float,
    pages: Mapping[int, str],
) -> list[Judged]:
    pictures = []
    for record in records:
        try:
            image = Image.fromarray(read_image(record.path).permute(1, 2, 0).numpy())
        except InputError:
            continue
        found = detections.get(record.image_id, NOTHING).above(threshold)
        sides = draw_judged(image, record, found, **judge(record, found)._asdict(), label_map=split.label_map)
        score = f"F1 {f1[record.image_id]:.2f}" if record.image_id in f1 else "nothing there, nothing found"
        for side in sides:
            side.picture.thumbnail(LARGEST_WH)
        shown = tuple(Picture(data_uri(side.picture), side.caption) for side in sides)
        pictures.append(Judged(shown, f"{record.path.name} · {score}", pages.get(record.image_id, "")))
    return pictures


def data_uri(picture: Image.Image) -> str:
    """Return a picture as a JPEG data URI."""
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
