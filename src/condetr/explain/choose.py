"""Choose the detections to explain, and the heads to show."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torchvision.ops import box_iou

from condetr.errors import InputError
from condetr.explain.measures import heads_of_sides
from condetr.explain.view import Explanation, View
from condetr.shapes import Detections

Query = int | Literal["best", "all"]
"""The query with this number, that of the best detection, or those of all detections."""

Heads = Sequence[int] | Literal["all", "sides"]
"""These heads, every head, or for each side of the box the head that prefers it."""


class Shown(NamedTuple):
    """A detection of a model, and the heads to show."""

    model: str
    view: View
    explanation: Explanation
    heads: list[int]

    def _repr_html_(self) -> str:
        """Return the picture of the heads for a notebook."""
        from condetr.explain.render import draw_heads

        stream = io.BytesIO()
        draw_heads(self).savefig(stream, format="png", facecolor="white")
        data = base64.b64encode(stream.getvalue()).decode()
        return f'<img src="data:image/png;base64,{data}" style="max-width:100%" alt="where each head looks">'


def choose(
    views: Mapping[str, View], *, query: Query = "best", threshold: float | None = None, heads: Heads = "all"
) -> list[list[Shown]]:
    """Choose detections of the first model, best first, and for each of them the matching detections of the others.

    Every inner list has an entry for each model. A query with several classes counts as its best one. Raises InputError
    if there is no such query or head or, for the choices `best` and `all`, if nothing scores at least `threshold`, by
    default the first model's own.
    """
    (first, first_view), *others = views.items()
    threshold = first_view.threshold if threshold is None else threshold
    return [
        [
            _shown(first, first_view, explanation, heads=heads),
            *(_shown(name, view, most_like(explanation, view), heads=heads) for name, view in others),
        ]
        for explanation in _chosen(first_view, query=query, threshold=threshold)
    ]


def most_like(explanation: Explanation, view: View) -> Explanation:
    """Explain another model's detection of the same object: of its class, with the highest score times overlap (IoU).

    If no detection of that class overlaps the box, all classes are considered.
    """
    height, width = view.pixels.shape[:2]
    box_xyxy = explanation.box_xyxy * np.array([width, height, width, height], np.float32)
    rank = rank_like(box_xyxy, explanation.name, view.detections)
    return view.explain(0 if rank is None else rank)


def rank_like(box_xyxy: Float[np.ndarray, "4"], name: str, detections: Detections) -> int | None:
    """Return which detection is most like a box of a class, as `most_like` chooses; None if none overlaps it."""
    boxes_xyxy = torch.from_numpy(detections.boxes_xyxy)
    fits = detections.scores * box_iou(boxes_xyxy, torch.from_numpy(box_xyxy)[None])[:, 0].numpy()
    of_class = np.where(np.array(detections.names) == name, fits, 0)
    return int(np.argmax(of_class if of_class.any() else fits)) if fits.any() else None


def _chosen(view: View, *, query: Query, threshold: float) -> list[Explanation]:
    if isinstance(query, int):
        return [view.explain(_rank_of(query, view.queries))]
    scores = view.detections.scores
    if scores[0] < threshold:
        raise InputError(
            f"nothing in the image scores {threshold:g} or more, the best is {view.detections.names[0]} with "
            f"{scores[0]:.3f}; lower --threshold or choose a --query by its number"
        )
    ranks = [0] if query == "best" else np.flatnonzero(scores >= threshold).tolist()
    return [view.explain(rank) for rank in ranks if _rank_of(view.queries[rank], view.queries) == rank]


def _rank_of(query: int, queries: Sequence[int]) -> int:
    if query not in queries:
        raise InputError(f"there is no query {query}; the queries of this model are 0 to {max(queries)}")
    return queries.index(query)


def _shown(model: str, view: View, explanation: Explanation, *, heads: Heads) -> Shown:
    num_heads = len(explanation.places())
    if heads == "all":
        numbers = list(range(num_heads))
    elif heads == "sides":
        numbers = list(heads_of_sides(explanation.places()).values())
    else:
        numbers = list(heads)
    beyond = [head for head in numbers if head not in range(num_heads)]
    if beyond:
        raise InputError(f"there is no head {beyond[0]} in {model}; its heads are 0 to {num_heads - 1}")
    return Shown(model, view, explanation, numbers)
