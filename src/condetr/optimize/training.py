"""Rewrites for training, in place: the same function and distribution, the same parameters under the same names.

Frozen batch norms are applied to the weights, s (W * x) + t = (s W) * x + t. Scaling a convolution's weights in every
step costs little compared with the two passes over its result that it saves. Under bf16 autocast the result also stays
in bf16, whereas the norm's fp32 statistics would make it fp32. On a CPU, dropout, attention and dilated depthwise
convolutions are replaced by faster forms.
"""

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from condetr.backbones.backbone import Backbone
from condetr.layers.attention import DotProductAttention
from condetr.optimize.depthwise import DilatedDepthwiseConvolution
from condetr.optimize.dropout import FastDropout
from condetr.optimize.fold import norms_after_convolutions
from condetr.optimize.norms import AppliedNorm, NormedConvolution
from condetr.optimize.training_attention import TrainingAttention


def speed_up_training(detector: nn.Module) -> None:
    """Speed up the training of a detector that is already on its device."""
    merge_frozen_norms(detector)
    if next(detector.parameters()).device.type != "cpu":
        return
    for name, module in list(detector.named_modules()):
        fast: nn.Module
        if type(module) is nn.Dropout:
            fast = FastDropout(module.p)
        elif type(module) is DotProductAttention:
            fast = TrainingAttention(module.num_heads, dropout=module.dropout)
        elif DilatedDepthwiseConvolution.stands_for(module):
            fast = DilatedDepthwiseConvolution(module)
        else:
            continue
        detector.set_submodule(name, fast.train(module.training))


def merge_frozen_norms(detector: nn.Module) -> None:
    """Let the convolutions of the backbone apply the frozen batch norms after them, in place.

    Parameters, buffers and their names do not change; the unscaled weights are trained.
    """
    backbones = [module for module in detector.modules() if isinstance(module, Backbone)]
    for part in [part for backbone in backbones for part in backbone.children()]:
        for convolution_name, norm_name in norms_after_convolutions(part):
            convolution, norm = part.get_submodule(convolution_name), part.get_submodule(norm_name)
            if type(convolution) is nn.Conv2d and convolution.bias is None and type(norm) is FrozenBatchNorm2d:
                applied = AppliedNorm(norm)
                part.set_submodule(convolution_name, NormedConvolution(convolution, applied))
                part.set_submodule(norm_name, applied)


NARROWEST = 16
"""Input channels that a strided 1x1 convolution needs for `channels_last` on the CPU: the block of oneDNN's AVX-512."""


def memory_format(detector: nn.Module, *, device: torch.device) -> torch.memory_format:
    """Return `channels_last`, the faster one, unless the CPU could not compute its gradients.

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
