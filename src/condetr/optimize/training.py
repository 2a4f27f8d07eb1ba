"""Frozen batch norms applied to the weights, for training: s (W * x) + t = (s W) * x + t.

Scaling a convolution's weights in every step costs little beside the two passes over its result that it saves, and
under bf16 autocast the result stays in bf16, where the norm's fp32 statistics would make it fp32.
"""

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from condetr.optimize.fold import norms_after_convolutions
from condetr.optimize.norms import AppliedNorm, NormedConvolution


def merge_frozen_norms(backbone: nn.Module) -> None:
    """Let a backbone's convolutions apply the frozen batch norms behind them, in place.

    Parameters, buffers and their names stay what they were; what is trained are the unscaled weights.
    """
    for part in backbone.children():
        for convolution_name, norm_name in norms_after_convolutions(part):
            convolution, norm = part.get_submodule(convolution_name), part.get_submodule(norm_name)
            if type(convolution) is nn.Conv2d and convolution.bias is None and type(norm) is FrozenBatchNorm2d:
                applied = AppliedNorm(norm)
                part.set_submodule(convolution_name, NormedConvolution(convolution, applied))
                part.set_submodule(norm_name, applied)
