"""What only training needs, taken off before a detector is kept."""

from dataclasses import replace

import torch
from torch import nn

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.registry import DetectorConfig


@torch.no_grad()
def without_training_aids(
    detector: nn.Module, *, config: DetectorConfig, num_classes: int
) -> tuple[nn.Module, DetectorConfig]:
    """Return the detector that detects: one group of queries, no denoising; itself where there is nothing to take off.

    The first group's queries lead every tensor that grows with the number of groups.
    """
    if not isinstance(config, ConditionalDetrConfig) or (config.query_groups == 1 and not config.denoising_groups):
        return detector, config
    plain = replace(config, query_groups=1, denoising_groups=0)
    trained, kept = detector.state_dict(), plain.build(num_classes=num_classes, pretrained=False)
    for name, tensor in kept.state_dict().items():
        tensor.copy_(trained[name][: len(tensor)] if tensor.dim() else trained[name])
    return kept.train(detector.training), plain
