"""The attention of a run's best model: maps of its highest-scored detections, and what each head watches on average."""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from PIL import Image

from condetr.data.dataset import ImageRecord, Split
from condetr.data.images import read_image
from condetr.errors import InputError
from condetr.explain.choose import Shown, choose
from condetr.explain.measures import SIDES, MapNumbers, mean, watched, who_watches
from condetr.explain.render import draw_heads
from condetr.explain.view import look
from condetr.interop.loading import load
from condetr.report.gallery import Picture, data_uri
from condetr.runs.folder import RunFolder
from condetr.shapes import Detections

IMAGES, SHOWN = 12, 3
"""The number of images used, and the number of them whose highest-scored detection is shown."""


class Habit(NamedTuple):
    """The attention of one head, as the mean over detections."""

    head: int
    watches: str
    shares: tuple[float, ...]
    """Shares at the left, top, right and bottom, and in the box, from 0 to 1."""


class Attention(NamedTuple):
    """The report's section on attention."""

    detections: int
    images: int
    habits: tuple[Habit, ...]
    pictures: tuple[Picture, ...]


def make_attention(
    run: RunFolder,
    split: Split,
    detections: Mapping[int, Detections],
    *,
    threshold: float,
    device: str | None = None,
) -> Attention | None:
    """Explain the highest-scored detections of the run's best model; None if it detects nothing.

    Images that cannot be read are skipped. Raises InputError if the model is damaged.
    """
    predictor = load(run.path, device=device)
    by_image = []
    for record in _most_certain(split, detections, threshold=threshold):
        try:
            pixels = read_image(record.path).permute(1, 2, 0).numpy()
            views = {record.path.name: look(predictor, pixels)}
            by_image.append([shown for (shown,) in choose(views, query="all", threshold=threshold)])
        except InputError:
            continue
    if not by_image:
        return None
    found = [shown for image in by_image for shown in image]
    return Attention(
        detections=len(found),
        images=len(by_image),
        habits=_habits(found),
        pictures=tuple(_picture(image[0]) for image in by_image[:SHOWN]),
    )


def _most_certain(split: Split, detections: Mapping[int, Detections], *, threshold: float) -> list[ImageRecord]:
    """Return the images with the highest-scored detections; detections of classes not yet shown come first."""
    records = {record.image_id: record for record in split.records}
    found = {image_id: each for image_id, each in detections.items() if len(each.above(threshold))}
    ranked = sorted(found, key=lambda image_id: (-float(found[image_id].scores[0]), image_id))
    first_of_class = {found[image_id].names[0]: image_id for image_id in reversed(ranked)}
    leading = [image_id for image_id in ranked if image_id in first_of_class.values()]
    others = [image_id for image_id in ranked if image_id not in first_of_class.values()]
    return [records[image_id] for image_id in (*leading, *others)[:IMAGES]]


def _habits(found: Sequence[Shown]) -> tuple[Habit, ...]:
    per_head = zip(*(shown.explanation.places() for shown in found), strict=True)
    return tuple(_habit(head, mean(numbers)) for head, numbers in enumerate(per_head))


def _habit(head: int, numbers: MapNumbers) -> Habit:
    shares = (*(numbers.at_sides[side] for side in SIDES), numbers.in_box)
    return Habit(head, watched(numbers), shares)


def _picture(shown: Shown) -> Picture:
    caption = f"{shown.model} · {who_watches(shown.explanation.places())}"
    return Picture(data_uri(_drawn(draw_heads(shown))), caption)


def _drawn(figure: Figure) -> Image.Image:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return Image.open(stream).convert("RGB")
