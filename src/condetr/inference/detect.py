"""Run a detector over batches, for prediction and for evaluation during and after training."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from condetr.boxes import cxcywh_to_xyxy
from condetr.data.batch import Batch
from condetr.detectors.detector import Detector
from condetr.errors import InputError
from condetr.labels import LabelMap
from condetr.shapes import Detections, Found


def detect(
    detector: Detector,
    batches: Iterable[Batch],
    *,
    label_map: LabelMap,
    device: str | torch.device,
    limit: int = 100,
    progress: Callable[[int], None] | None = None,
) -> dict[int, Detections]:
    """Return the detections of every image, by image id, in pixels of the original image.

    `progress` is called after each batch with its number of images. The detector must already be on `device`; it
    runs in evaluation mode and returns to its previous mode afterwards.
    """
    found: dict[int, Detections] = {}
    with evaluating(detector):
        for batch in batches:
            detections = detect_batch(detector, batch, label_map=label_map, device=device, limit=limit)
            found |= zip(batch.image_ids, detections, strict=True)
            if progress is not None:
                progress(len(batch.image_ids))
    return found


@torch.inference_mode()
def detect_batch(
    detector: Detector, batch: Batch, *, label_map: LabelMap, device: str | torch.device, limit: int = 100
) -> list[Detections]:
    """Return the detections of each image of one batch; the detector must be in evaluation mode."""
    if limit < 0:
        raise InputError(f"the limit must be a number of detections per image, got {limit}")
    batch = batch.to(device)
    found = detector.found(detector.predict(batch), limit=limit)
    return [
        to_detections(each, size_hw=size_hw, label_map=label_map)
        for each, size_hw in zip(found, batch.original_sizes_hw, strict=True)
    ]


def to_detections(found: Found, *, size_hw: tuple[int, int], label_map: LabelMap) -> Detections:
    """Return the detections of an image in pixels of its given original size; boxes are not clipped."""
    height, width = size_hw
    boxes_xyxy = cxcywh_to_xyxy(found.boxes_cxcywh).cpu() * torch.tensor([width, height, width, height])
    labels, names = found.labels.cpu(), label_map.names
    return Detections(
        boxes_xyxy=boxes_xyxy.numpy(),
        scores=found.scores.cpu().numpy(),
        labels=labels.numpy(),
        names=tuple(names[label] for label in labels.tolist()),
        sources=found.source.cpu().numpy(),
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
