import pytest
import torch
from torch import nn
from torch.nn import functional as F

from condetr.optimize import winograd
from condetr.optimize.onednn import (
    ACTIVATIONS,
    NO_ACTIVATION,
    Activation,
    PackedConvolution,
    has_bf16_kernels,
    pack_projections,
)
from condetr.optimize.winograd import WinogradConvolution, use_winograd

RELU = ACTIVATIONS[nn.ReLU]


def packed(
    channels: int = 128,
    *,
    dtype: torch.dtype = torch.float32,
    activation: Activation = RELU,
    kernel_size: int = 3,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> PackedConvolution:
    torch.manual_seed(0)
    convolution = nn.Conv2d(channels, channels, kernel_size, stride, padding, dilation, groups).requires_grad_(False)
    return PackedConvolution(convolution.to(dtype).to(memory_format=torch.channels_last), activation=activation)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size_hw", [(10, 12), (9, 12), (10, 7), (5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_results_are_those_of_the_convolution(
    dtype: torch.dtype, size_hw: tuple[int, int], dilation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype == torch.bfloat16 and not has_bf16_kernels():
        pytest.skip("oneDNN does not compute in bf16 on this processor")
    monkeypatch.setattr(winograd, "MIN_PRODUCTS", 1)
    direct = packed(16, dtype=dtype, padding=dilation, dilation=dilation)
    convolution = WinogradConvolution(direct)
    pack_projections(convolution)
    x = torch.randn(2, 16, *size_hw).relu().to(dtype, memory_format=torch.channels_last)
    before = x.clone()

    found = convolution(x)

    expected = F.conv2d(x.double(), direct.weight.double(), direct.bias.double(), padding=dilation, dilation=dilation)
    error, rounding = ((y - expected.relu()).pow(2).mean().sqrt() for y in (found, expected.relu().to(dtype)))
    assert error <= (5 * rounding if dtype == torch.bfloat16 else 1e-7)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x, before)


def test_small_maps_are_left_to_the_direct_convolution() -> None:
    direct = packed()
    x = torch.randn(1, 128, 6, 6).contiguous(memory_format=torch.channels_last)

    torch.testing.assert_close(WinogradConvolution(direct)(x), direct(x), rtol=0, atol=0)


class Two(nn.Module):
    """A convolution alone, and one whose result is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.alone, self.added = packed(), packed()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.alone(x)
        return self.added(y, x)  # type: ignore[no-any-return]


class Leaves(torch.fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, PackedConvolution) or super().is_leaf_module(m, module_qualified_name)


def test_only_convolutions_whose_result_is_theirs_alone_are_replaced() -> None:
    two = Two()
    backbone = nn.Sequential(torch.fx.GraphModule(two, Leaves().trace(two)))

    use_winograd(backbone)

    assert isinstance(backbone[0].alone, WinogradConvolution)
    assert isinstance(backbone[0].added, PackedConvolution)


@pytest.mark.parametrize(
    "convolution",
    [
        packed(64),
        packed(activation=NO_ACTIVATION),
        packed(stride=2),
        packed(groups=2),
        packed(padding=0),
        packed(padding=2, dilation=1),
        packed(kernel_size=1, padding=0),
        packed(dtype=torch.bfloat16),
    ],
    ids=["narrow", "no relu", "stride", "groups", "no padding", "wide padding", "1 x 1", "narrow for bf16"],
)
def test_others_stay(convolution: PackedConvolution) -> None:
    assert winograd._pays_for(packed())
    assert not winograd._pays_for(convolution)
