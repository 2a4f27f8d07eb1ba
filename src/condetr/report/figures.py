"""The report's charts, as SVG for light and dark pages."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from condetr.explain.habits import Habits, draw_habits
from condetr.inference.drawing import PALETTE
from condetr.metrics.matching import PrecisionRecall
from condetr.runs.contents import History

_LEGEND_COLUMNS = 4

INK = "#858c96"
"""Axes and text: a grey that is legible on white and on near-black."""

MANY_CLASSES = 10

Points = tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]
"""Epochs, and a value for each."""


def accuracy_chart(history: History) -> str | None:
    """Return AP, AP50 and AP75 over epochs as a data URI, None if no epoch was evaluated."""
    curves = {name: _points(history, name) for name in ("AP", "AP50", "AP75")}
    curves = {name: points for name, points in curves.items() if len(points[1])}
    if not curves:
        return None
    figure, axes = _chart(x="epoch", y="average precision", width=6.4)
    for color, (name, points) in zip(PALETTE, curves.items(), strict=False):
        _line(axes, points, color=color, label=name, width=2.2 if name == "AP" else 1.4)
    axes.set_ylim(bottom=0)
    return _finish(figure, axes)


def loss_chart(history: History) -> str | None:
    """Return the losses over epochs on a logarithmic scale as a data URI, None if there are none."""
    curves = {name: _points(history, name) for name in history if name.split("_")[0] == "loss"}
    curves = {name: points for name, points in curves.items() if len(points[1]) and points[1].max() > 0}
    if not curves:
        return None
    figure, axes = _chart(x="epoch", y="training loss")
    for color, (name, points) in zip(PALETTE, curves.items(), strict=False):
        label = "total" if name == "loss" else name.removeprefix("loss_")
        _line(axes, points, color=color, label=label, width=2.2 if name == "loss" else 1.4)
    axes.set_yscale("log")
    return _finish(figure, axes)


def learning_rate_chart(history: History) -> str | None:
    """Return the learning rate over epochs as a data URI, None if there is none."""
    epochs, values = _points(history, "lr")
    if not len(values):
        return None
    figure, axes = _chart(x="epoch", y="learning rate")
    axes.step(epochs, values, where="post", color=PALETTE[0], marker=_marker(values), markersize=3.5)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    return _finish(figure, axes)


def precision_recall_chart(curves: PrecisionRecall, *, names: Sequence[str], iou: int) -> str | None:
    """Return precision over recall at IoU 50 or 75 % as a data URI, with a line for every class that occurs.

    If there are many classes, they are faint lines behind their mean.
    """
    precision = curves.precision_50 if iou == 50 else curves.precision_75
    occurring = np.flatnonzero(~np.isnan(precision[:, 0]))
    if not len(occurring):
        return None
    figure, axes = _chart(x="recall", y="precision", height=3.2)
    many = len(occurring) > MANY_CLASSES
    for label in occurring.tolist():
        style = {"color": INK, "linewidth": 0.6, "alpha": 0.5} if many else {"color": PALETTE[label % len(PALETTE)]}
        axes.plot(curves.recall, precision[label], label=None if many else names[label], **style)
    if many or len(occurring) > 1:
        color = PALETTE[0] if many else INK
        axes.plot(curves.recall, precision[occurring].mean(axis=0), color=color, linewidth=2.4, label="mean of classes")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), title=f"IoU 0.{iou}")
    return _finish(figure, axes)


def confusion_chart(matrix: Int[np.ndarray, "Truth Predicted"], *, names: Sequence[str]) -> str:
    """Return the confusion matrix as a data URI, coloured by the share of each row, with counts if there is room."""
    labels = [*names, "background"]
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(9.0, max(3.4, 1.6 + 0.42 * len(labels)))
    id_or_name = "" if len(labels) <= 41 else ", training id"
    figure, axes = _chart(x=f"predicted{id_or_name}", y=f"ground truth{id_or_name}", width=side + 0.6, height=side)
    axes.imshow(shares, cmap=_COLORS, vmin=0, vmax=1)
    axes.grid(visible=False)
    if not id_or_name:
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), labels)
    if len(labels) <= 21:
        for row, column in np.ndindex(*matrix.shape):
            color = "#ffffff" if shares[row, column] > 0.35 else INK
            axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=color, fontsize=8)
    return _finish(figure, axes, legend=False)


def habits_chart(habits: Habits) -> str:
    """Return what heads watch, by layer, size and class, as a data URI."""
    return _data_uri(draw_habits(habits, ink=INK))


_COLORS = LinearSegmentedColormap.from_list("share", [(0.18, 0.42, 1.0, 0.0), (0.18, 0.42, 1.0, 1.0)])


def _points(history: History, name: str) -> Points:
    """Return the epochs and values of a column that are finite."""
    values = np.asarray(history.get(name, []), dtype=float)
    epochs = np.asarray(history.get("epoch", range(1, len(values) + 1)), dtype=float)[: len(values)]
    there = np.isfinite(values)
    return epochs[there], values[there]


def _line(axes: Axes, points: Points, *, color: str, label: str, width: float) -> None:
    epochs, values = points
    axes.plot(epochs, values, color=color, label=label, linewidth=width, marker=_marker(values), markersize=3.5)


def _marker(values: Float[np.ndarray, " N"]) -> str:
    """Mark each point if they are few, because a single one would be invisible as a line."""
    return "o" if len(values) <= 25 else ""


def _chart(*, x: str, y: str, width: float = 5.4, height: float = 2.9) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("none")
    axes.grid(color=INK, alpha=0.22, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.set_xlabel(x, color=INK, fontsize=9)
    axes.set_ylabel(y, color=INK, fontsize=9)
    return figure, axes


def _finish(figure: Figure, axes: Axes, *, legend: bool = True) -> str:
    """Return a figure as a data URI; equal figures give equal bytes."""
    axes.title.set(color=INK, fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    if legend and handles:
        columns = min(len(handles), _LEGEND_COLUMNS)
        style: dict[str, Any] = {"frameon": False, "fontsize": 9, "labelcolor": INK, "ncols": columns}
        figure.legend(handles, labels, loc="outside upper center", **style)
    return _data_uri(figure)


def _data_uri(figure: Figure) -> str:
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "condetr"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()
