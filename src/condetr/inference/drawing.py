"""Draw boxes and labels on images with supervision, legible on thumbnails and on photographs."""

import math
import warnings
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from condetr.data.dataset import ImageRecord
from condetr.labels import LabelMap
from condetr.shapes import Detections

with warnings.catch_warnings():
    # supervision can also draw boxes and text without OpenCV, but more slowly.
    warnings.filterwarnings("ignore", message="OpenCV")
    import supervision

PALETTE = (
    "#2f6bff", "#ff5a36", "#0ca678", "#f2b705", "#ae3ec9", "#00b8d9", "#f03e8c", "#74b816",
    "#9c6644", "#5c7cfa", "#e8590c", "#099268", "#fcc419", "#7048e8", "#15aabf", "#d6336c",
)  # fmt: skip
"""Colours of the classes by training id, repeated cyclically."""

SMALLEST_LONG_SIDE = 400
"""Images below this size are enlarged before drawing, so that their labels can be read."""


def draw_detections(image: Image.Image, detections: Detections) -> Image.Image:
    """Return a copy of the image with a box, the class name and the score of every detection."""
    labels = [f"{name} {score:.2f}" for name, score in zip(detections.names, detections.scores, strict=True)]
    return _draw(image, detections, labels)


def draw_truth(image: Image.Image, record: ImageRecord, *, label_map: LabelMap) -> Image.Image:
    """Return a copy of the image with its ground-truth boxes and class names; crowd regions are marked."""
    names = tuple(label_map.names[label] for label in record.labels)
    labels = [f"{name} (crowd)" if is_crowd else name for name, is_crowd in zip(names, record.is_crowd, strict=True)]
    truth = Detections(
        boxes_xyxy=record.boxes_xyxy, scores=np.ones(len(names), np.float32), labels=record.labels, names=names
    )
    return _draw(image, truth, labels)


def draw_side_by_side(
    image: Image.Image, record: ImageRecord, detections: Detections, *, label_map: LabelMap
) -> Image.Image:
    """Return ground truth on the left and detections on the right, with a caption over each."""
    left = draw_truth(image, record, label_map=label_map)
    right = draw_detections(image, detections)
    gap, caption = max(6, left.width // 60), max(26, max(left.size) // 22)
    sheet = Image.new("RGB", (2 * left.width + gap, left.height + caption), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.truetype(_FONT, round(caption * 0.6))
    for x, picture, text in ((0, left, "ground truth"), (left.width + gap, right, "prediction")):
        sheet.paste(picture, (x, caption))
        pen.text((x + 2, caption * 0.42), text, font=font, fill="#333333", anchor="lm")
    return sheet


_FONT = str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


class _Sizes(NamedTuple):
    """Sizes in pixels that suit an image."""

    line: int
    font: int
    padding: int

    @staticmethod
    def of(image: Image.Image, *, num_boxes: int) -> "_Sizes":
        long_side = max(image.size)
        crowding = 0.8 if num_boxes > 15 else 1.0
        font = max(12, round(long_side / 40 * crowding))
        return _Sizes(line=max(1, round(long_side / 320)), font=font, padding=max(2, font // 4))


def _draw(image: Image.Image, detections: Detections, labels: list[str]) -> Image.Image:
    factor = max(1, math.ceil(SMALLEST_LONG_SIDE / max(image.size)))
    canvas = image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    if len(detections) == 0:
        return canvas
    sizes = _Sizes.of(canvas, num_boxes=len(detections))
    # Lowest score first, so that the best is on top; clipped only here, to keep frames inside the image.
    order = np.argsort(detections.scores, kind="stable")
    boxes_xyxy = np.clip(detections.boxes_xyxy * factor, 0, np.tile(np.subtract(canvas.size, 1), 2))
    drawable = supervision.Detections(xyxy=boxes_xyxy[order], class_id=detections.labels[order])
    boxes = supervision.BoxAnnotator(color=_COLORS, thickness=sizes.line)
    names = supervision.RichLabelAnnotator(
        color=_COLORS,
        text_color=_TEXT_COLORS,
        font_path=_FONT,
        font_size=sizes.font,
        text_padding=sizes.padding,
        smart_position=True,
    )
    framed = boxes.annotate(canvas, drawable)
    drawn: Image.Image = names.annotate(framed, drawable, [labels[index] for index in order])
    return drawn


def _readable_on(color: str) -> str:
    """Return black or white, whichever contrasts more with a background (ITU-R BT.601 luma)."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else "#ffffff"


_COLORS = supervision.ColorPalette.from_hex(list(PALETTE))
_TEXT_COLORS = supervision.ColorPalette.from_hex([_readable_on(color) for color in PALETTE])
