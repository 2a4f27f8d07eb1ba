import pytest
import torch
from torch import nn

from condetr.optimize.depthwise import DilatedDepthwiseConvolution


@pytest.mark.parametrize("size_hw", [(9, 12), (8, 7), (1, 2)])
@pytest.mark.parametrize(
    ("kernel_size", "dilation"), [((3, 3), (2, 2)), ((5, 3), (2, 3)), ((3, 1), (4, 1))], ids=["square", "both", "one"]
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("bias", [True, False])
def test_result_and_gradients_are_those_of_the_convolution(
    kernel_size: tuple[int, int],
    dilation: tuple[int, int],
    size_hw: tuple[int, int],
    layout: torch.memory_format,
    *,
    bias: bool,
) -> None:
    torch.manual_seed(0)
    padding = (dilation[0] * (kernel_size[0] // 2), dilation[1] * (kernel_size[1] // 2))
    direct = nn.Conv2d(6, 6, kernel_size, padding=padding, dilation=dilation, groups=6, bias=bias)
    assert DilatedDepthwiseConvolution.stands_for(direct)
    fast = DilatedDepthwiseConvolution(direct)
    x = torch.randn(2, 6, *size_hw).contiguous(memory_format=layout).requires_grad_()
    weighting = torch.randn(2, 6, *size_hw)

    results = [
        [y, *torch.autograd.grad((y * weighting).sum(), [x, *direct.parameters()])] for y in (direct(x), fast(x))
    ]

    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("learns_input", [True, False])
def test_only_what_is_wanted_gets_a_gradient(*, learns_input: bool) -> None:
    fast = DilatedDepthwiseConvolution(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False))
    fast.requires_grad_(not learns_input)
    x = torch.randn(1, 4, 6, 6, requires_grad=learns_input)

    fast(x).sum().backward()

    assert (x.grad is None, fast.weight.grad is None) == (not learns_input, learns_input)


def test_autocast_computes_in_bf16() -> None:
    direct = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16)
    x = torch.randn(1, 16, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = DilatedDepthwiseConvolution(direct)(x)
    y.float().sum().backward()

    assert (y.dtype, direct.weight.grad is None) == (torch.bfloat16, False)
    torch.testing.assert_close(y.float(), direct(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2, groups=4),
        nn.Conv2d(4, 4, 2, padding=1, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, stride=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4),
    ],
    ids=["not dilated", "groups", "wider", "smaller", "even", "stride", "reflect", "same"],
)
def test_it_stands_for_no_other_convolution(other: nn.Conv2d) -> None:
    assert not DilatedDepthwiseConvolution.stands_for(other)
