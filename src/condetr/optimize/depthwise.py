"""Dilated depthwise convolutions on a CPU, computed as convolutions without dilation.

A kernel with dilation d combines only cells that are a multiple of d apart. So the map is split into d x d maps of
every d-th cell, which are convolved separately. oneDNN has no kernel for the weights' gradient of dilated depthwise
convolutions, and its fallback is slow: a step of conditional_detr_mobilenet on 8 images of 320 x 320 takes 0.76 of its
time with this form (bf16; in fp32 0.96; two cores of an AMD EPYC, Zen 5).
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class DilatedDepthwiseConvolution(nn.Conv2d):
    """A depthwise convolution with dilation whose result is as large as its input."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(convolution.__dict__)  # the same geometry, the same parameters

    @staticmethod
    def stands_for(module: nn.Module) -> bool:
        """Tell whether a module is such a convolution."""
        return (
            type(module) is nn.Conv2d
            and module.groups == module.in_channels == module.out_channels
            and module.stride == (1, 1)
            and max(module.dilation) > 1
            and module.padding_mode == "zeros"
            and all(size % 2 for size in module.kernel_size)
            and module.padding == _padding(module.kernel_size, module.dilation)
        )

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """Return the convolution."""
        (batch, channels, height, width), (down, right) = x.shape, self.dilation
        if height % down or width % right:
            x = F.pad(x, (0, -width % right, 0, -height % down))
        cells = x.permute(0, 2, 3, 1)
        split = cells.unflatten(2, (-1, right)).unflatten(1, (-1, down))  # B, H / down, down, W / right, right, D
        rows, columns = split.shape[1], split.shape[3]
        maps = split.permute(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
        padding = _padding(self.kernel_size, (1, 1))
        maps = F.conv2d(maps, self.weight, self.bias, padding=padding, groups=self.groups)
        parts = maps.permute(0, 2, 3, 1).reshape(down, right, batch, rows, columns, channels)
        together = parts.permute(2, 3, 0, 4, 1, 5).reshape(batch, rows * down, columns * right, channels)
        return together[:, :height, :width].permute(0, 3, 1, 2)


def _padding(kernel_size: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return the padding at each side that keeps the size of the input."""
    return tuple(d * (size // 2) for d, size in zip(dilation, kernel_size, strict=True))
