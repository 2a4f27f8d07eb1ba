"""Draw boxes and labels on images with supervision, legible on thumbnails and on photographs."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image, ImageDraw, ImageFont
from torchvision.utils import make_grid

from condetr.boxes import cxcywh_to_xyxy
from condetr.data.batch import Batch
from condetr.data.dataset import ImageRecord
from condetr.labels import LabelMap
from condetr.shapes import Detections
from condetr.words import counted

with warnings.catch_warnings():
    # supervision can also draw boxes and text without OpenCV, but more slowly.
    warnings.filterwarnings("ignore", message="OpenCV")
    import supervision

PALETTE = (
    "#2f6bff", "#ff5a36", "#0ca678", "#f2b705", "#ae3ec9", "#00b8d9", "#f03e8c", "#74b816",
    "#9c6644", "#5c7cfa", "#e8590c", "#099268", "#fcc419", "#7048e8", "#15aabf", "#d6336c",
)  # fmt: skip
"""Colours of the classes by training id, repeated cyclically."""

HIT, WRONG = "#0072b2", "#d55e00"
"""Colours that the colour-blind tell apart (Okabe and Ito)."""

MOST_OF_A_BATCH = 8

SMALLEST_LONG_SIDE = 400
"""Images below this size are enlarged before drawing, so that their labels can be read."""


class Side(NamedTuple):
    """A picture beside another one."""

    caption: str
    picture: Image.Image


def draw_detections(image: Image.Image, detections: Detections) -> Image.Image:
    """Return a copy of the image with a box, the class name and the score of every detection."""
    return _draw(image, detections, _scored(detections))


def draw_truth(image: Image.Image, record: ImageRecord, *, label_map: LabelMap) -> Image.Image:
    """Return a copy of the image with its ground-truth boxes and class names; crowd regions are marked."""
    truth = _truth(record, label_map=label_map)
    return _draw(image, truth, list(truth.names))


def draw_judged(
    image: Image.Image,
    record: ImageRecord,
    detections: Detections,
    *,
    kinds: Sequence[str],
    is_found: Bool[np.ndarray, " T"],
    label_map: LabelMap,
) -> tuple[Side, Side]:
    """Return ground truth, and detections, as `metrics.errors.judge` told them apart, each with a caption.

    Hits and found objects have a whole blue frame; misses and false alarms have orange corners and say what they are.
    """
    truth = _truth(record, label_map=label_map)
    is_hit = np.array([kind in ("hit", "ignored") for kind in kinds], dtype=bool)
    of_truth = [name if found else f"{name}: missed" for name, found in zip(truth.names, is_found, strict=True)]
    of_found = [
        text if hit else f"{text}: {kind}" for text, hit, kind in zip(_scored(detections), is_hit, kinds, strict=True)
    ]
    return (
        Side(
            f"ground truth: {(~is_found).sum()} of {len(is_found)} missed",
            _draw(image, truth, of_truth, is_right=is_found),
        ),
        Side(
            f"prediction: {is_hit.sum()} right, {counted(int((~is_hit).sum()), 'false alarm')}",
            _draw(image, detections, of_found, is_right=is_hit),
        ),
    )


def draw_batch(batch: Batch, *, label_map: LabelMap) -> Image.Image:
    """Return up to eight images of a training batch side by side, as they were augmented, with their boxes."""
    tiles = []
    for index, (height, width) in enumerate(batch.sizes_hw[:MOST_OF_A_BATCH]):
        count = batch.targets.counts[index]
        boxes_cxcywh = batch.targets.boxes_cxcywh[index, :count].cpu()
        labels = batch.targets.labels[index, :count].cpu().numpy()
        truth = Detections(
            boxes_xyxy=(cxcywh_to_xyxy(boxes_cxcywh) * torch.tensor([width, height, width, height])).numpy(),
            scores=np.ones(count, np.float32),
            labels=labels,
            names=tuple(label_map.names[label] for label in labels),
        )
        image = Image.fromarray(batch.pixels[index].permute(1, 2, 0).cpu().numpy())
        tiles.append(torch.from_numpy(np.array(_draw(image, truth, list(truth.names)))).permute(2, 0, 1))
    grid = make_grid(tiles, nrow=4, padding=8, pad_value=255)
    return Image.fromarray(grid.permute(1, 2, 0).numpy())


def _scored(detections: Detections) -> list[str]:
    return [f"{name} {score:.2f}" for name, score in zip(detections.names, detections.scores, strict=True)]


def _truth(record: ImageRecord, *, label_map: LabelMap) -> Detections:
    """Return the ground truth as if it had been detected."""
    names = [label_map.names[label] for label in record.labels]
    return Detections(
        boxes_xyxy=record.boxes_xyxy,
        scores=np.ones(len(names), np.float32),
        labels=record.labels,
        names=tuple(f"{name} (crowd)" if crowd else name for name, crowd in zip(names, record.is_crowd, strict=True)),
    )


def draw_side_by_side(
    image: Image.Image, record: ImageRecord, detections: Detections, *, label_map: LabelMap
) -> Image.Image:
    """Return ground truth on the left and detections on the right, with a caption over each."""
    truth = draw_truth(image, record, label_map=label_map)
    sides = (Side("ground truth", truth), Side("prediction", draw_detections(image, detections)))
    left, right = (side.picture for side in sides)
    gap, caption = max(6, left.width // 60), max(26, max(left.size) // 22)
    sheet = Image.new("RGB", (2 * left.width + gap, left.height + caption), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.truetype(_FONT, round(caption * 0.6))
    for x, (text, picture) in zip((0, right.width + gap), sides, strict=True):
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


def _draw(
    image: Image.Image, detections: Detections, labels: list[str], *, is_right: Bool[np.ndarray, " N"] | None = None
) -> Image.Image:
    """Draw boxes in the colours of their classes, or as right or wrong."""
    factor = max(1, math.ceil(SMALLEST_LONG_SIDE / max(image.size)))
    canvas = image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    if len(detections) == 0:
        return canvas
    sizes = _Sizes.of(canvas, num_boxes=len(detections))
    # Lowest score first, so that the best is on top; clipped only here, to keep frames inside the image.
    order = np.argsort(detections.scores, kind="stable")
    boxes_xyxy = np.clip(detections.boxes_xyxy * factor, 0, np.tile(np.subtract(canvas.size, 1), 2))
    looks = detections.labels if is_right is None else np.where(is_right, 0, 1)
    drawable = supervision.Detections(xyxy=boxes_xyxy[order], class_id=looks[order])
    colors, text_colors = (_COLORS, _TEXT_COLORS) if is_right is None else (_VERDICTS, _VERDICT_TEXTS)
    boxes = supervision.BoxAnnotator(color=colors, thickness=sizes.line)
    corners = supervision.BoxCornerAnnotator(
        color=colors, thickness=2 * sizes.line + 1, corner_length=max(canvas.size) // 40
    )
    names = supervision.RichLabelAnnotator(
        color=colors,
        text_color=text_colors,
        font_path=_FONT,
        font_size=sizes.font,
        text_padding=sizes.padding,
        smart_position=True,
    )
    is_framed = np.ones(len(drawable), dtype=bool) if is_right is None else is_right[order]
    framed = canvas
    for frame, is_drawn in ((boxes, is_framed), (corners, ~is_framed)):
        framed = frame.annotate(
            framed, supervision.Detections(boxes_xyxy[order][is_drawn], class_id=looks[order][is_drawn])
        )
    drawn: Image.Image = names.annotate(framed, drawable, [labels[index] for index in order])
    return drawn


def _readable_on(color: str) -> str:
    """Return black or white, whichever contrasts more with a background (ITU-R BT.601 luma)."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else "#ffffff"


def _palettes(colors: Sequence[str]) -> tuple[supervision.ColorPalette, supervision.ColorPalette]:
    """Return colours, and those of text on them."""
    of_text = [_readable_on(color) for color in colors]
    return supervision.ColorPalette.from_hex([*colors]), supervision.ColorPalette.from_hex(of_text)


_COLORS, _TEXT_COLORS = _palettes(PALETTE)
_VERDICTS, _VERDICT_TEXTS = _palettes((HIT, WRONG))
