"""The attention of a run's best model: its highest-scored detections, and what each head watches over many of them."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from condetr.data.dataset import ImageRecord, Split
from condetr.data.images import read_image
from condetr.errors import InputError
from condetr.explain.choose import Shown, choose
from condetr.explain.habits import Habits, habits_of, see, spread
from condetr.explain.measures import who_watches
from condetr.explain.render import draw_heads
from condetr.explain.view import look, num_layers
from condetr.inference.predictor import Predictor
from condetr.report.figures import habits_chart
from condetr.report.gallery import Picture, data_uri
from condetr.shapes import NOTHING, Detections

IMAGES, SHOWN = 100, 3
"""The number of images that habits are taken from, and of those whose highest-scored detection is shown."""


class Attention(NamedTuple):
    """The report's section on attention."""

    habits: Habits
    layer: int
    """The last one."""
    chart: str
    """The habits of all layers, as a data URI."""
    pictures: tuple[Picture, ...]


def make_attention(
    predictor: Predictor, split: Split, detections: Mapping[int, Detections], *, threshold: float
) -> Attention | None:
    """Explain what a run's best model detects; None if it detects nothing, or cannot be explained.

    Habits are taken from images spread over those with detections, pictures from those with the highest scores.
    Images that cannot be read are skipped.
    """
    if predictor.detector.looks_at is None:
        return None
    found = [record for record in split.records if len(detections.get(record.image_id, NOTHING).above(threshold))]
    habits = habits_of(see(predictor, pixels, threshold=threshold) for _, pixels in _readable(spread(found, IMAGES)))
    if not habits.detections:
        return None
    return Attention(
        habits=habits,
        layer=num_layers(predictor.detector) - 1,
        chart=habits_chart(habits),
        pictures=tuple(_pictures(predictor, _most_certain(found, detections), threshold=threshold)),
    )


def _readable(records: Iterable[ImageRecord]) -> Iterator[tuple[ImageRecord, UInt8[np.ndarray, "H W 3"]]]:
    for record in records:
        try:
            yield record, read_image(record.path).permute(1, 2, 0).numpy()
        except InputError:
            continue


def _most_certain(records: Sequence[ImageRecord], detections: Mapping[int, Detections]) -> list[ImageRecord]:
    """Return the images with the highest-scored detections first; detections of classes not yet shown come first."""
    ranked = sorted(records, key=lambda record: (-float(detections[record.image_id].scores[0]), record.image_id))
    by_class = {detections[record.image_id].names[0]: record.image_id for record in reversed(ranked)}
    return sorted(ranked, key=lambda record: record.image_id not in by_class.values())


def _pictures(predictor: Predictor, records: Sequence[ImageRecord], *, threshold: float) -> Iterator[Picture]:
    drawable = _drawable(predictor, records, threshold=threshold)
    return islice((_picture(shown) for shown in drawable), SHOWN)


def _drawable(predictor: Predictor, records: Sequence[ImageRecord], *, threshold: float) -> Iterator[Shown]:
    """Yield the best detection of each image in which there is one."""
    for record, pixels in _readable(records):
        try:
            ((shown,),) = choose({record.path.name: look(predictor, pixels)}, threshold=threshold)
        except InputError:
            continue
        yield shown


def _picture(shown: Shown) -> Picture:
    caption = f"{shown.model} · {who_watches(shown.explanation.places())}"
    return Picture(data_uri(_drawn(draw_heads(shown))), caption)


def _drawn(figure: Figure) -> Image.Image:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return Image.open(stream).convert("RGB")
