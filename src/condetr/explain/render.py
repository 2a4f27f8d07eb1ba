"""Figures of attention maps, in the style of figures 1 and 4 of Conditional DETR."""

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageOps

from condetr.explain.choose import Shown
from condetr.explain.measures import SIDES, heads_of_sides, watched
from condetr.explain.view import Explanation, View

COLORS = mpl.colormaps["inferno"]
BOX, INK, SOFT = "#3dff9e", "#1b1f24", "#66707c"
LONG_SIDE, GAP, COLUMN = 2.1, 0.07, 0.95
"""Inches: the size of a panel, the gap between panels, and the minimum width of a column, for its label."""
DOTS_PER_INCH = 150


def draw_heads(shown: Shown) -> Figure:
    """Draw the spatial, content and combined maps of the chosen heads over the image, a column for each (figure 4)."""
    _, view, explanation, heads = shown
    page = _Page(view.pixels, columns=len(heads), rows=3, left=0.95, top=1.25, notes=_notes([view]))
    page.title(f"{explanation.name} {explanation.score:.2f}", _where(view, explanation))
    for row, (part, maps) in enumerate(explanation.maps._asdict().items()):
        page.row_label(row, f"{part}\n(mixed)" if part == "content" and view.is_mixed else part)
        for column, head in enumerate(heads):
            page.panel(row, column, attention=maps[head], explanation=explanation)
    numbers = explanation.spatial_numbers()
    for column, head in enumerate(heads):
        page.column_label(column, f"head {head}", watched(numbers[head]))
    return page.figure


def draw_models(models: Sequence[Shown]) -> Figure:
    """Draw the spatial maps of one object in several models, a row for each model (figure 1).

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
        spatial = model.explanation.maps.spatial
        chosen = heads_of_sides(model.explanation.spatial_numbers())
        numbers = ", ".join(str(head) for head in chosen.values())
        page.row_caption(row, model.model, f"{model.explanation.name} {model.explanation.score:.2f} · heads {numbers}")
        for column, side in enumerate(SIDES):
            if side in chosen:
                page.panel(row, column, attention=spatial[chosen[side]], explanation=model.explanation)
    return page.figure


def _where(view: View, explanation: Explanation) -> str:
    return f"query {explanation.query} · decoder layer {view.layer} of 0 to {view.num_layers - 1}"


def _notes(views: Sequence[View]) -> list[str]:
    notes = ["Each map runs from 0 (dark) to its own maximum (bright). Frame: the detection."]
    if any(view.reference_xy is not None for view in views):
        notes[0] += " Dot: its reference point."
    if any(view.is_mixed for view in views):
        notes.append("In this first layer, the positions are also part of the content, so content is mixed.")
    if any(view.is_one_sum for view in views):
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

    def row_label(self, row: int, text: str) -> None:
        middle = self._row_top(row) + self.panel_height / 2
        self._text(self.left - 0.1, middle, text, size=10.0, align="right", vertical="center")

    def row_caption(self, row: int, main: str, rest: str) -> None:
        room = int(self.width * 10)
        shown = main if len(main) <= room else f"…{main[1 - room :]}"
        self._text(self.left, self._row_top(row) - 0.42, shown, size=9.5, weight="bold")
        self._text(self.left, self._row_top(row) - 0.22, rest, size=9.0, color=SOFT)

    def panel(self, row: int, column: int, *, attention: Float[np.ndarray, "h w"], explanation: Explanation) -> None:
        x = self.left + (column + 0.5) * self.pitch - self.panel_width / 2
        y = self._row_top(row) + self.panel_height
        axes = self.figure.add_axes(
            (x / self.width, 1 - y / self.height, self.panel_width / self.width, self.panel_height / self.height)
        )
        axes.imshow(_overlay(self.backdrop, attention), extent=(0, 1, 1, 0), aspect="auto", interpolation="bilinear")
        x0, y0, x1, y1 = explanation.box_xyxy.tolist()
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=BOX, linewidth=1.4))
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
