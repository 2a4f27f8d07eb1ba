"""Run a detector over batches: the loop behind evaluation, prediction and the training loop's check of each epoch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from condetr.boxes import cxcywh_to_xyxy
from condetr.data.batch import Batch
from condetr.errors import InputError
from condetr.labels import LabelMap
from condetr.shapes import Detections, DetectorOutput, Prediction


def detect(
    detector: nn.Module,
    batches: Iterable[Batch],
    *,
    scores: Literal["sigmoid", "softmax"],
    label_map: LabelMap,
    device: str | torch.device,
    limit: int = 100,
    progress: Callable[[int], None] | None = None,
) -> dict[int, Detections]:
    """Return the detections of every image, by image id, in pixels of the original image.

    `progress` is called after each batch with the number of its images. The detector must be on `device` already; it
    runs in evaluation mode and gets its former mode back.
    """
    found: dict[int, Detections] = {}
    with evaluating(detector):
        for batch in batches:
            found |= zip(
                batch.image_ids,
                detect_batch(detector, batch, scores=scores, label_map=label_map, device=device, limit=limit),
                strict=True,
            )
            if progress is not None:
                progress(len(batch.image_ids))
    return found


@torch.inference_mode()
def detect_batch(
    detector: nn.Module,
    batch: Batch,
    *,
    scores: Literal["sigmoid", "softmax"],
    label_map: LabelMap,
    device: str | torch.device,
    limit: int = 100,
) -> list[Detections]:
    """Return the detections of each image of one batch; the detector must be in evaluation mode."""
    batch = batch.to(device)
    output: DetectorOutput = detector(batch.images, batch.is_padding)
    return to_detections(
        output.final, scores=scores, sizes_hw=batch.original_sizes_hw, label_map=label_map, limit=limit
    )


@contextmanager
def evaluating(detector: nn.Module) -> Iterator[None]:
    """Put a detector in evaluation mode for the length of a block."""
    was_training = detector.training
    detector.eval()
    try:
        yield
    finally:
        detector.train(was_training)


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
