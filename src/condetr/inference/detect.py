"""Run a detector over batches: the loop behind evaluation, prediction and the training loop's check of each epoch."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from condetr.data.batch import Batch
from condetr.inference.postprocess import to_detections
from condetr.labels import LabelMap
from condetr.shapes import Detections, DetectorOutput


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
