"""Which of many boxes are found, where several of them are about one object."""

from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import batched_nms

from condetr.boxes import xyxy_to_cxcywh
from condetr.shapes import Found


def without_overlap(
    boxes_xyxy: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    *,
    source: Int[Tensor, " N"],
    size_wh: Float[Tensor, "2"],
    most_overlap: float,
    limit: int,
) -> Found:
    """Return the best boxes whose IoU with better ones of their class is at most `most_overlap`.

    Boxes are in pixels of an image of the given size, and inside of it.
    """
    kept = batched_nms(boxes_xyxy, scores, labels, most_overlap)[:limit]
    boxes_cxcywh = xyxy_to_cxcywh(boxes_xyxy[kept] / size_wh.repeat(2))
    return Found(boxes_cxcywh, scores[kept], labels[kept], source=source[kept])


def seen_without_overlap(
    boxes_xyxy: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    *,
    source: Int[Tensor, " N"],
    size_wh: Float[Tensor, "2"],
    most_overlap: float,
    limit: int,
) -> Found:
    """Return what of the best boxes is inside the image, where they are compared before they are clipped to it."""
    kept = batched_nms(boxes_xyxy, scores, labels, most_overlap)
    inside = clipped(boxes_xyxy[kept], size_wh=size_wh)
    is_seen = (inside[:, 2:] > inside[:, :2]).all(-1)
    kept, inside = kept[is_seen][:limit], inside[is_seen][:limit]
    return Found(xyxy_to_cxcywh(inside / size_wh.repeat(2)), scores[kept], labels[kept], source=source[kept])


def clipped(boxes_xyxy: Float[Tensor, "*batch 4"], *, size_wh: Float[Tensor, "2"]) -> Float[Tensor, "*batch 4"]:
    """Return what of the boxes is inside an image of the given size."""
    return boxes_xyxy.clamp(min=0).minimum(size_wh.repeat(2))
