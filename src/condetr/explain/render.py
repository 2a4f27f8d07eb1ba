"""Figures of attention maps and sampling points, in the style of figures 1 and 4 of Conditional DETR."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageOps

from condetr.explain.cells import CellAttention
from condetr.explain.choose import Shown
from condetr.explain.measures import SIDES, heads_of_sides, watched
from condetr.explain.points import PointsOfQuery
from condetr.explain.view import Explanation, View

COLORS = mpl.colormaps["inferno"]
BOX, INK, SOFT = "#3dff9e", "#1b1f24", "#66707c"
LEVELS = ("#ffb000", "#ff5f7e", "#b07cff", "#3fa7ff", "#00c2a8", "#c8a27a")
LONG_SIDE, GAP, COLUMN = 2.1, 0.07, 0.95
"""Inches: the size of a panel, the gap between panels, and the minimum width of a column, for its label."""
DOTS_PER_INCH = 150


def draw_heads(shown: Shown) -> Figure:
    """Draw where the chosen heads look, over the image, a column for each.

    The rows are the spatial, content and combined maps (figure 4), or the points of all levels and of each of them.
    """
    _, view, explanation, heads = shown
    rows = _rows(view, explanation)
    page = _Page(view.pixels, columns=len(heads), rows=len(rows), left=0.95, top=1.25, notes=_notes([view]))
    page.title(f"{explanation.name} {explanation.score:.2f}", _where(view, explanation))
    for row, (label, color, looks) in enumerate(rows):
        page.row_label(row, label, color=color)
        for column, head in enumerate(heads):
            page.panel(row, column, looks=looks[head], explanation=explanation)
    numbers = explanation.places()
    for column, head in enumerate(heads):
        page.column_label(column, f"head {head}", watched(numbers[head]))
    return page.figure


def draw_models(models: Sequence[Shown]) -> Figure:
    """Draw the spatial maps, or the points, of one object in several models, a row for each model (figure 1).

    A column shows the head that prefers that side of the box; which head this is differs between models.
    """
    notes = _notes([model.view for model in models])
    page = _Page(
        models[0].view.pixels, columns=len(SIDES), rows=len(models), left=0.1, top=1.0, above_row=0.5, notes=notes
    )
    page.title("Spatial attention", "of the heads that prefer a side of the box, each model's own")
    for column, side in enumerate(SIDES):
        page.column_label(column, side)
    for row, model in enumerate(models):
        looks = _rows(model.view, model.explanation)[0].looks
        chosen = heads_of_sides(model.explanation.places())
        numbers = ", ".join(str(head) for head in chosen.values())
        page.row_caption(row, model.model, f"{model.explanation.name} {model.explanation.score:.2f} · heads {numbers}")
        for column, side in enumerate(SIDES):
            if side in chosen:
                page.panel(row, column, looks=looks[chosen[side]], explanation=model.explanation)
    return page.figure


class _Points(NamedTuple):
    """Points to draw: the weight is a part of the heaviest point of the head."""

    xy: Float[np.ndarray, "N 2"]
    weight: Float[np.ndarray, " N"]
    color: Sequence[str]


class _Row(NamedTuple):
    """A row of panels, one for each head."""

    label: str
    color: str
    looks: Sequence[Float[np.ndarray, "h w"] | _Points]


def _rows(view: View, explanation: Explanation) -> list[_Row]:
    """Return what can be drawn of an explanation; the first row tells where heads look."""
    attention = explanation.attention
    if isinstance(attention, PointsOfQuery):
        return _rows_of_points(attention)
    is_mixed = isinstance(view.attention, CellAttention) and view.attention.is_mixed
    labels = {"content": "content\n(mixed)"} if is_mixed else {}
    return [_Row(labels.get(part, part), INK, maps) for part, maps in attention.maps._asdict().items()]


def _rows_of_points(attention: PointsOfQuery) -> list[_Row]:
    """Return all levels together, the heaviest point on top, and then each level."""
    num_levels, num_points = attention.weights.shape[1:]
    colors = [level_color(level) for level in range(num_levels)]
    strengths = attention.weights / attention.weights.max(axis=(1, 2), keepdims=True)
    together = []
    for xy, strength in zip(attention.points_xy.reshape(len(strengths), -1, 2), strengths, strict=True):
        order = np.argsort(strength, axis=None)
        together.append(_Points(xy[order], strength.ravel()[order], [colors[at // num_points] for at in order]))
    levels = [
        _Row(
            f"level {level}",
            colors[level],
            [
                _Points(xy[level], strength[level], [colors[level]] * num_points)
                for xy, strength in zip(attention.points_xy, strengths, strict=True)
            ],
        )
        for level in range(num_levels)
    ]
    return [_Row("points", INK, together), *(levels if num_levels > 1 else [])]


def level_color(level: int) -> str:
    """Return the color of a feature level, 0 being the finest."""
    return LEVELS[level % len(LEVELS)]


def _where(view: View, explanation: Explanation) -> str:
    return f"query {explanation.query} · decoder layer {view.layer} of 0 to {view.num_layers - 1}"


def _notes(views: Sequence[View]) -> list[str]:
    attentions = [view.attention for view in views]
    cells = [each for each in attentions if isinstance(each, CellAttention)]
    notes = ["Frame: the detection."]
    if any(each.reference_xy is not None for each in attentions):
        notes[0] += " Green dot: its reference point."
    if cells:
        notes[0] = f"Each map runs from 0 (dark) to its own maximum (bright). {notes[0]}"
    if len(cells) < len(attentions):
        notes.append("Points: the larger and the more opaque, the more weight. Color: the level, from 0, the finest.")
    if any(each.is_mixed for each in cells):
        notes.append("In this first layer, the positions are also part of the content, so content is mixed.")
    if any(each.is_one_sum for each in cells):
        notes.append("DETR adds content and position: its spatial map is the whole query against the positions alone.")
    return notes


class _Page:
    """A figure whose panels and texts are placed in inches, from the top left."""

    def __init__(
        self,
        pixels: UInt8[np.ndarray, "H W 3"],
        *,
        columns: int,
        rows: int,
        left: float,
        top: float,
        notes: Sequence[str],
        above_row: float = 0.0,
    ) -> None:
        height, width = pixels.shape[:2]
        inches = LONG_SIDE / max(height, width)
        self.panel_width: float = width * inches
        self.panel_height: float = height * inches
        self.backdrop = _backdrop(pixels)
        self.left, self.top, self.above_row = left, top, above_row
        self.pitch = max(self.panel_width, COLUMN) + GAP
        self.width = max(left + columns * self.pitch + 0.1, 5.0)
        lines = [line for note in notes for line in textwrap.wrap(note, width=int(self.width * 14))]
        grid_height = rows * (self.panel_height + GAP + above_row)
        self.height = top + grid_height + 0.17 * len(lines) + 0.15
        self.figure = Figure(figsize=(self.width, self.height), dpi=DOTS_PER_INCH, facecolor="white")
        FigureCanvasAgg(self.figure)
        for number, line in enumerate(lines):
            self._text(0.1, top + grid_height + 0.05 + 0.17 * number, line, size=8.0, color=SOFT)

    def title(self, main: str, rest: str) -> None:
        self._text(0.1, 0.12, main, size=13.0, weight="bold")
        self._text(0.1, 0.4, rest, size=9.0, color=SOFT)

    def column_label(self, column: int, main: str, rest: str = "") -> None:
        centre = self.left + (column + 0.5) * self.pitch
        self._text(centre, self.top - (0.4 if rest else 0.22), main, size=10.0, weight="bold", align="center")
        self._text(centre, self.top - 0.21, rest, size=9.0, color=SOFT, align="center")

    def row_label(self, row: int, text: str, *, color: str = INK) -> None:
        middle = self._row_top(row) + self.panel_height / 2
        self._text(self.left - 0.1, middle, text, size=10.0, color=color, align="right", vertical="center")

    def row_caption(self, row: int, main: str, rest: str) -> None:
        room = int(self.width * 10)
        shown = main if len(main) <= room else f"…{main[1 - room :]}"
        self._text(self.left, self._row_top(row) - 0.42, shown, size=9.5, weight="bold")
        self._text(self.left, self._row_top(row) - 0.22, rest, size=9.0, color=SOFT)

    def panel(
        self, row: int, column: int, *, looks: Float[np.ndarray, "h w"] | _Points, explanation: Explanation
    ) -> None:
        x = self.left + (column + 0.5) * self.pitch - self.panel_width / 2
        y = self._row_top(row) + self.panel_height
        axes = self.figure.add_axes(
            (x / self.width, 1 - y / self.height, self.panel_width / self.width, self.panel_height / self.height)
        )
        shown = self.backdrop if isinstance(looks, _Points) else _overlay(self.backdrop, looks)
        axes.imshow(shown, extent=(0, 1, 1, 0), aspect="auto", interpolation="bilinear")
        x0, y0, x1, y1 = explanation.box_xyxy.tolist()
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=BOX, linewidth=1.4))
        if isinstance(looks, _Points):
            x, y = looks.xy.T
            colors = to_rgba_array(looks.color, 0.25 + 0.75 * looks.weight)
            axes.scatter(x, y, s=2 + 30 * looks.weight, c=colors, linewidths=0, zorder=3)
        if explanation.reference_xy is not None:
            axes.plot(
                *explanation.reference_xy,
                marker="o",
                markersize=3.6,
                color=BOX,
                markeredgecolor="#000000",
                markeredgewidth=0.7,
            )
        axes.set(xlim=(0, 1), ylim=(1, 0))
        axes.set_axis_off()

    def _row_top(self, row: int) -> float:
        return self.top + row * (self.panel_height + GAP + self.above_row) + self.above_row

    def _text(
        self, x: float, y: float, text: str, *, size: float, color: str = INK, weight: str = "normal",
        align: str = "left", vertical: str = "top",
    ) -> None:  # fmt: skip
        self.figure.text(
            x / self.width, 1 - y / self.height, text, fontsize=size, color=color, fontweight=weight, ha=align,
            va=vertical, parse_math=False,
        )  # fmt: skip


def _backdrop(pixels: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H2 W2 3"]:
    """Return the image in dark grey, at its display size."""
    image = ImageOps.autocontrast(Image.fromarray(pixels).convert("L"), cutoff=1)
    factor = LONG_SIDE * DOTS_PER_INCH / max(image.size)
    shown = image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.BICUBIC
    )
    grey: np.ndarray = 0.1 + 0.6 * np.asarray(shown, dtype=np.float32)[..., None] / 255
    return np.repeat(grey, 3, axis=-1)


def _overlay(backdrop: Float[np.ndarray, "H W 3"], attention: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "H W 3"]:
    """Overlay an image with a map: the more attention, the less of the image shows through."""
    height, width = backdrop.shape[:2]
    scaled = Image.fromarray((attention / max(float(attention.max()), 1e-12)).astype(np.float32))
    strength = np.clip(np.asarray(scaled.resize((width, height), Image.Resampling.BICUBIC)), 0, 1)
    opacity = 0.85 * np.sqrt(strength)[..., None]
    mixed: np.ndarray = (1 - opacity) * backdrop + opacity * COLORS(strength)[..., :3].astype(np.float32)
    return mixed
