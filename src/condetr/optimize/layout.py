"""The memory layout of a detector's convolutions."""

import torch
from torch import nn

NARROWEST = 16
"""Input channels that a strided 1x1 convolution needs for `channels_last` on the CPU: the block of oneDNN's AVX-512."""


def memory_format(detector: nn.Module, *, device: torch.device) -> torch.memory_format:
    """Return `channels_last`, the faster layout, unless the CPU cannot compute gradients in it.

    The weights' gradient of a 1x1 convolution with a stride and fewer channels than a block is written beyond oneDNN's
    workspace, which corrupts memory or the gradient (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """
    convolutions = (module for module in detector.modules() if isinstance(module, nn.Conv2d))
    if device.type == "cpu" and any(map(_is_narrow_and_strided, convolutions)):
        return torch.contiguous_format
    return torch.channels_last


def _is_narrow_and_strided(convolution: nn.Conv2d) -> bool:
    is_strided = max(convolution.stride) > 1 and max(convolution.kernel_size) == 1
    return is_strided and convolution.in_channels // convolution.groups < NARROWEST
