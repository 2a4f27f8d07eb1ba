"""The weights' gradient of wide convolutions as matrix products, on processors whose widest instructions are AVX2.

For position (i, j) of a kernel it is g^T x, where g is the gradient of the result and x the input shifted to (i, j),
with a row for each cell and a column for each channel. On two cores of an AMD EPYC (Zen 3), for ResNet-50 on two images
of 800 x 1066, oneDNN's kernels take 230 to 420 ms for a 3 x 3 kernel with stride 2, the products 85 to 170; without a
stride 140 to 230, the products 75 to 120.
"""

import itertools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

MIN_CHANNELS = 128
"""Minimum number of channels: with fewer, the products are too narrow to be faster."""


def convolve(
    x: Float[Tensor, "B D_in H W"],
    weight: Float[Tensor, "D_out D_group K_h K_w"],
    bias: Float[Tensor, " D_out"],
    *,
    like: nn.Conv2d,
) -> Float[Tensor, "B D_out H_out W_out"]:
    """Return the convolution with the geometry of another one."""
    y: Tensor
    if _pays_for(x, like):
        y = _Convolution.apply(x, weight, bias, like.stride, like.padding, like.dilation)
    else:
        y = like._conv_forward(x, weight, bias)
    return y


def _pays_for(x: Tensor, convolution: nn.Conv2d) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
        and x.is_contiguous(memory_format=torch.channels_last)
        and convolution.weight.requires_grad
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
        and min(convolution.in_channels, convolution.out_channels) >= MIN_CHANNELS
        and max(*convolution.kernel_size, *convolution.stride) > 1
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: Float[Tensor, "B D_in H W"],
        weight: Float[Tensor, "D_out D_in K_h K_w"],
        bias: Float[Tensor, " D_out"],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Float[Tensor, "B D_out H_out W_out"]:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, dilation
        return F.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "B D_out H_out W_out"]) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], False, ctx.needs_input_grad[2]]
        of_x, _, of_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, [len(weight)], *ctx.geometry, False, [0, 0], 1, wanted
        )
        of_weight = _weight_gradient(gradient, x, weight.shape[2:], *ctx.geometry) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, of_bias, None, None, None


def _weight_gradient(
    gradient: Float[Tensor, "B D_out H_out W_out"],
    x: Float[Tensor, "B D_in H W"],
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Float[Tensor, "D_out D_in K_h K_w"]:
    height, width = gradient.shape[2:]
    of_cells = gradient.permute(0, 2, 3, 1).flatten(0, 2)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0]))
    of_weight = x.new_empty(gradient.shape[1], *kernel_size, x.shape[1])
    for row, column in itertools.product(*map(range, kernel_size)):
        top, left = row * dilation[0], column * dilation[1]
        met = padded[:, top :: stride[0], left :: stride[1]][:, :height, :width]
        torch.mm(of_cells.T, met.flatten(0, 2), out=of_weight[:, row, column])
    return of_weight.permute(0, 3, 1, 2)
