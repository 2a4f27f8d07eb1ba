"""The cost of a detector: parameters and multiply-adds, counted without allocating memory."""

from functools import cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from condetr.detectors.detector import without_training_aids
from condetr.detectors.registry import DetectorConfig


class Cost(NamedTuple):
    """Parameters and multiply-adds of a detector."""

    parameters: int
    """The number of parameters, including frozen ones."""
    multiply_adds: int
    """Multiply-adds for one image. Papers give this number, in billions, as GFLOPs."""


class PublishedCost(NamedTuple):
    """Parameters and multiply-adds as a paper prints them."""

    parameters: int | None
    """Millions; None where the paper has no number."""
    multiply_adds: int
    """Billions, as a mean over COCO images of about 800x1066. Papers call them GFLOPs."""


@cache
def cost_of(config: DetectorConfig, *, num_classes: int = 91, size_hw: tuple[int, int] = (800, 1066)) -> Cost:
    """Count the parameters of the exported detector, and its multiply-adds on one unpadded image.

    The paper's table 1 gives 86 (DETR-R50) and 90 (Conditional DETR-R50), means over COCO images of about this size;
    here they are 81 and 85, because only convolutions and matrix products are counted.
    """
    with torch.device("meta"):
        trained = config.build(num_classes=num_classes, pretrained=False).eval().requires_grad_(False)
        detector, _ = without_training_aids(trained, config=config, num_classes=num_classes)
        images, is_padding = torch.empty(1, 3, *size_hw), torch.zeros(1, *size_hw, dtype=torch.bool)
        with FlopCounterMode(display=False) as counter:
            detector(images, is_padding)
    return Cost(
        parameters=sum(parameter.numel() for parameter in detector.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
    )
