"""3 x 3 convolutions with 16 products for each 2 x 2 cells instead of 36: F(2x2, 3x3) of Lavin and Gray, CVPR 2016.

Along one axis, two outputs y of a kernel g over four inputs d are

    y0 = m0 + m1 + m2     m0 = (d0 - d2) g0     m1 = (d1 + d2) (g0 + g1 + g2) / 2
    y1 = m1 - m2 - m3     m3 = (d1 - d3) g2     m2 = (d2 - d1) (g0 - g1 + g2) / 2

and the same is applied along the other axis. The products are matrix products over channels. In fp32 the result is as
exact as the direct one; in bf16, where d and m are rounded as well, its error is two to four times as large.

On two cores of an AMD EPYC (Zen 4), 256 channels on 50 x 67 cells take 6.6 ms instead of 8.5 (bf16) and 11.6 instead of
17.2 (fp32), 512 channels there 20 instead of 34 and 39 instead of 69.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn import functional as F

from condetr.optimize.machine import has_matrix_tiles
from condetr.optimize.onednn import PackedConvolution, Projection

KERNEL = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
"""The transformation of the kernel along an axis."""
MIN_CHANNELS = {torch.float32: 128, torch.bfloat16: 256}
"""Minimum number of channels: with fewer, sums and differences of maps cost more than the products save."""
MIN_PRODUCTS = 2**24
"""Minimum number of multiply-adds in each of the 16 matrix products: with fewer, the calls cost too much."""


def use_winograd(backbone: nn.Module) -> nn.Module:
    """Replace the convolutions of a packed backbone that become faster, in place."""
    for part in backbone.children():
        if not isinstance(part, fx.GraphModule):
            continue
        for node in part.graph.nodes:
            if node.op == "call_module" and len(node.args) == 1:  # without a sum
                convolution = part.get_submodule(str(node.target))
                if isinstance(convolution, PackedConvolution) and _pays_for(convolution):
                    part.set_submodule(str(node.target), WinogradConvolution(convolution))
    return backbone


def _pays_for(convolution: PackedConvolution) -> bool:
    out_channels, in_channels, *kernel_size = convolution.weight.shape
    padding, stride, dilation, groups = convolution.geometry
    dtype = convolution.weight.dtype
    return (
        (kernel_size, stride, groups) == ([3, 3], (1, 1), 1)
        and padding == dilation
        and convolution.activation.name == "relu"
        and min(in_channels, out_channels) >= MIN_CHANNELS[dtype]
        and not (dtype == torch.bfloat16 and has_matrix_tiles())
    )


class WinogradConvolution(nn.Module):
    """A 3 x 3 convolution with stride 1, padded to the size of its input, and ReLU."""

    def __init__(self, direct: PackedConvolution) -> None:
        super().__init__()
        self.direct = direct
        self.dilation = direct.geometry[2]
        kernel = torch.tensor(KERNEL, device=direct.weight.device)
        weights = torch.einsum("ya,xb,oiab->yxoi", kernel, kernel, direct.weight.float()).to(direct.weight.dtype)
        nothing = torch.zeros_like(direct.bias)
        # The second product along both axes is in all four cells of a tile and never subtracted: it takes the bias.
        self.products = nn.ModuleList(
            Projection(weights[row, column], direct.bias if row == column == 1 else nothing)
            for row in range(4)
            for column in range(4)
        )

    def forward(self, x: Float[Tensor, "B D_in H W"]) -> Float[Tensor, "B D_out H W"]:
        """Return relu(convolution(x))."""
        images, in_channels, height, width = x.shape
        out_channels = len(self.direct.bias)
        down, right = self.dilation
        tiles = images * math.ceil(height / down / 2) * math.ceil(width / right / 2)
        if tiles * in_channels * out_channels < MIN_PRODUCTS:
            return self.direct(x)  # type: ignore[no-any-return]
        x, y = x.permute(0, 2, 3, 1), x.new_empty(images, height, width, out_channels)
        for top, left in itertools.product(range(down), range(right)):  # maps that a dilated kernel does not mix
            self._convolve(x[:, top::down, left::right], y[:, top::down, left::right])
        return y.permute(0, 3, 1, 2)

    def _convolve(self, x: Float[Tensor, "B H W D_in"], y: Float[Tensor, "B H W D_out"]) -> None:
        """Write relu(convolution(x)) to y, without dilation."""
        images, height, width, _ = x.shape
        tiles = images, math.ceil(height / 2), math.ceil(width / 2)
        padded = F.pad(x, (0, 0, 1, 2 * tiles[2] + 1 - width, 1, 2 * tiles[1] + 1 - height))
        inputs = _inputs(_inputs(padded, dim=1), dim=3).flatten(2, 4)
        products = [[self.products[4 * row + column](inputs[column, row]) for column in range(4)] for row in range(4)]
        for column, of_rows in enumerate(zip(*(_outputs(of_columns) for of_columns in products), strict=True)):
            for row, output in enumerate(_outputs(of_rows)):
                cells = y[:, row::2, column::2]
                torch.clamp_min(output.view(*tiles, y.shape[-1])[:, : cells.shape[1], : cells.shape[2]], 0, out=cells)


def _inputs(d: Float[Tensor, "..."], *, dim: int) -> Float[Tensor, "..."]:
    """Return d0 - d2, d1 + d2, d2 - d1 and d1 - d3 along an axis, stacked in front."""
    count = d.shape[dim] // 2 - 1
    d0, d1, d2, d3 = (d[(slice(None),) * dim + (slice(first, first + 2 * count, 2),)] for first in range(4))
    inputs = d.new_empty(4, *d0.shape)
    torch.sub(d0, d2, out=inputs[0])
    torch.add(d1, d2, out=inputs[1])
    torch.sub(d2, d1, out=inputs[2])
    torch.sub(d1, d3, out=inputs[3])
    return inputs


def _outputs(m: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return m0 + m1 + m2 and m1 - m2 - m3, over m0 and m1."""
    return m[0].add_(m[1]).add_(m[2]), m[1].sub_(m[2]).sub_(m[3])
