"""The habits of heads: what each head of each layer watches over many detections, by the objects' size and class."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from condetr.explain.measures import MapNumbers, Watched, watched
from condetr.explain.view import Depths, View, look_into_all
from condetr.inference.predictor import Predictor
from condetr.metrics.coco import SIZES, Size
from condetr.words import counted

Place = Literal["left", "top", "right", "bottom", "centre", "inside", "elsewhere", "everywhere"]
"""What a head watches. The centre is what is inside with its centre of mass in the middle half of the box."""

T = TypeVar("T")

PLACES: tuple[Place, ...] = get_args(Place)

COLORS: dict[Place, str] = {
    "left": "#2f6bff", "top": "#e8590c", "right": "#66b2ff", "bottom": "#ffb057", "centre": "#2b8a3e",
    "inside": "#8ce99a", "elsewhere": "#c3c9d1", "everywhere": "#868e96",
}  # fmt: skip
CLASSES = 6
"""How many classes a picture shows at most, those with the most detections."""


class Seen(NamedTuple):
    """A detection, and what each head watches in each layer."""

    name: str
    size: Size
    places: list[list[Place]]


class Group(NamedTuple):
    """Detections of a kind: all, those of a size, or those of a class."""

    kind: Literal["all", "size", "class"]
    name: str
    detections: int
    shares: Float[np.ndarray, "L M places"] | None
    """The share of detections in which a head of a layer watches each of `PLACES`; None if there are no detections."""

    def most_watched(self, *, layer: int) -> list[tuple[Place, float]]:
        """Return what each head of a layer watches most often, and its share; nothing if there are no detections."""
        heads = [] if self.shares is None else self.shares[layer]
        return [(PLACES[int(head.argmax())], float(head.max())) for head in heads]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: for each layer and head, the places that it watches at all."""
        shares = [] if self.shares is None else self.shares.tolist()
        layers = [
            [{place: share for place, share in zip(PLACES, head, strict=True) if share} for head in layer]
            for layer in shares
        ]
        return {"kind": self.kind, "name": self.name, "detections": self.detections, "layers": layers}


class Habits(NamedTuple):
    """What heads watch over many detections."""

    images: int
    """All that were looked at, those without a detection included."""
    groups: list[Group]
    """All detections first, then each size, then each class, the most frequent first."""

    @property
    def detections(self) -> int:
        """The number of detections."""
        return self.groups[0].detections

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "images": self.images,
            "detections": self.detections,
            "places": list(PLACES),
            "groups": [group.to_dict() for group in self.groups],
        }


def habits_of(seen: Iterable[Sequence[Seen]]) -> Habits:
    """Return the habits over the detections of each of many images."""
    by_image = list(seen)
    every = [each for image in by_image for each in image]
    classes = [name for name, _ in Counter(each.name for each in every).most_common()]
    return Habits(
        len(by_image),
        [
            _group("all", "all", every),
            *(_group("size", size, [each for each in every if each.size == size]) for size in SIZES),
            *(_group("class", name, [each for each in every if each.name == name]) for name in classes),
        ],
    )


def see(predictor: Predictor, pixels: UInt8[np.ndarray, "H W 3"], *, threshold: float | None = None) -> list[Seen]:
    """Return what every head of every layer watches for each detection of an image that scores enough.

    That is at least `threshold`, by default the predictor's own. A query with several classes counts as its best one.
    """
    depths = look_into_all(predictor, pixels)
    last = depths.views[-1]
    least = last.threshold if threshold is None else threshold
    ranks = np.flatnonzero(last.detections.scores >= least).tolist()
    return [_seen(depths, last, rank) for rank in ranks if last.queries.index(last.queries[rank]) == rank]


def spread(items: Sequence[T], most: int | None) -> list[T]:
    """Return so many items at most, evenly spread, the first and the last among them."""
    if most is None or len(items) <= most:
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, most).round().astype(int).tolist()]


def place_of(numbers: MapNumbers) -> Place:
    """Return what a head watches; of what is inside the box, the centre is told apart."""
    word: Watched = watched(numbers)
    is_central = all(0.25 <= at <= 0.75 for at in numbers.centre_xy)
    return "centre" if word == "inside" and is_central else word


def draw_habits(habits: Habits, *, ink: str = "#1b1f24") -> Figure:
    """Draw a bar for every head, of the places that it watches: a row for each layer, a column for each group."""
    classes = [group for group in habits.groups if group.kind == "class"][:CLASSES]
    groups = [*(group for group in habits.groups if group.kind != "class"), *classes]
    shares = habits.groups[0].shares
    assert shares is not None, "there is nothing to draw"
    num_layers, num_heads, _ = shares.shape
    width, height = 1.1 + 1.35 * len(groups), 1.0 + num_layers * (0.34 + 0.17 * num_heads)
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(num_layers, len(groups), squeeze=False)
    for row, column in np.ndindex(*grid.shape):
        axes = cast(Axes, grid[row, column])
        group = groups[column]
        axes.set(xlim=(0, 1), ylim=(num_heads - 0.5, -0.5), xticks=[], yticks=range(num_heads) if column == 0 else [])
        axes.tick_params(colors=ink, labelsize=7, length=0)
        axes.set_facecolor("none")
        axes.spines[:].set_visible(False)
        if row == 0:
            axes.set_title(f"{_short(group.name)}\n{counted(group.detections, 'detection')}", color=ink, fontsize=8.5)
        if column == 0:
            axes.set_ylabel(f"layer {row}", color=ink, fontsize=8.5)
        if group.shares is not None:
            _bars(axes, group.shares[row])
    legend = [Patch(color=color, label=place) for place, color in COLORS.items()]
    figure.legend(
        handles=legend, loc="outside lower left", ncols=len(legend) if len(groups) > 4 else 4, frameon=False,
        fontsize=8, labelcolor=ink,
    )  # fmt: skip
    return figure


def _bars(axes: Axes, shares: Float[np.ndarray, "M places"]) -> None:
    left = np.zeros(len(shares))
    for place, share in zip(PLACES, shares.T, strict=True):
        axes.barh(np.arange(len(shares)), share, left=left, height=0.82, color=COLORS[place])
        left = left + share


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


def _seen(depths: Depths, last: View, rank: int) -> Seen:
    query, box_xyxy = last.queries[rank], last.box_xyxy(rank)
    width, height = np.maximum(np.diff(last.detections.boxes_xyxy[rank].reshape(2, 2), axis=0)[0], 0)
    size = next(size for size, most in SIZES.items() if width * height < most)
    layers = [view.attention.of(query).places(box_xyxy) for view in depths.views]
    return Seen(last.detections.names[rank], size, [[place_of(head) for head in heads] for heads in layers])


def _group(kind: Literal["all", "size", "class"], name: str, seen: Sequence[Seen]) -> Group:
    if not seen:
        return Group(kind, name, 0, None)
    index = np.array([[[PLACES.index(place) for place in heads] for heads in each.places] for each in seen])
    return Group(
        kind, name, len(seen), np.stack([index == place for place in range(len(PLACES))], axis=-1).mean(axis=0)
    )
