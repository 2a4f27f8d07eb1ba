"""From logits and relative boxes to detections in pixels: no threshold, no suppression, no clipping."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from condetr.boxes import cxcywh_to_xyxy
from condetr.errors import InputError
from condetr.labels import LabelMap
from condetr.shapes import Detections, Prediction


class Ranked(NamedTuple):
    """The best pairs of query and class in every image, best first."""

    scores: Float[Tensor, "B N"]
    labels: Int[Tensor, "B N"]
    queries: Int[Tensor, "B N"]


def to_detections(
    prediction: Prediction,
    *,
    scores: Literal["sigmoid", "softmax"],
    sizes_hw: Sequence[tuple[int, int]],
    label_map: LabelMap,
    limit: int = 100,
) -> list[Detections]:
    """Return what a prediction means on images of the given original sizes in pixels, best first.

    `sigmoid`: every class of every query competes, so a query may yield several labels (Conditional DETR's
    post-processing). `softmax`: the last column is "no object" and every query yields its best other class (DETR's).
    At most `limit` detections remain for an image.
    """
    if limit < 0:
        raise InputError(f"the limit is how many detections an image may have, got {limit}")
    rank = rank_sigmoid if scores == "sigmoid" else rank_softmax
    ranked = rank(prediction.logits.float(), limit=limit)
    boxes_xyxy = cxcywh_to_xyxy(prediction.boxes_cxcywh.float())
    boxes_xyxy = boxes_xyxy.gather(1, ranked.queries[..., None].expand(-1, -1, 4))
    sizes_whwh = boxes_xyxy.new_tensor([(width, height, width, height) for height, width in sizes_hw])
    names = label_map.names
    columns = (boxes_xyxy * sizes_whwh[:, None], ranked.scores, ranked.labels)
    return [
        Detections(
            boxes_xyxy=boxes.numpy(),
            scores=score.numpy(),
            labels=labels.numpy(),
            names=tuple(names[label] for label in labels.tolist()),
        )
        for boxes, score, labels in zip(*(column.cpu() for column in columns), strict=True)
    ]


def rank_sigmoid(logits: Float[Tensor, "B Q K"], *, limit: int) -> Ranked:
    """Rank all queries' classes together by their sigmoid."""
    num_classes = logits.shape[-1]
    scores, places = logits.sigmoid().flatten(1).topk(min(limit, logits[0].numel()))
    return Ranked(scores=scores, labels=places % num_classes, queries=places // num_classes)


def rank_softmax(logits: Float[Tensor, "B Q C"], *, limit: int) -> Ranked:
    """Rank queries by the softmax of their best class; the last column is "no object"."""
    best, labels = logits.softmax(dim=-1)[..., :-1].max(dim=-1)
    scores, queries = best.topk(min(limit, best.shape[1]))
    return Ranked(scores=scores, labels=labels.gather(1, queries), queries=queries)
