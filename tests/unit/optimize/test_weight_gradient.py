from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from condetr.optimize import weight_gradient
from condetr.optimize.weight_gradient import convolve


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Let this processor be one with AVX2, narrow convolutions wide; return the kernels whose gradient is products."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(weight_gradient, "MIN_CHANNELS", 4)
    kernels: list[tuple[int, ...]] = []
    products = weight_gradient._weight_gradient

    def noted(*args: torch.Tensor) -> torch.Tensor:
        kernels.append(tuple(args[2]))
        return products(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(weight_gradient, "_weight_gradient", noted)
    return kernels


@pytest.mark.parametrize("size_hw", [(9, 12), (8, 7)])
@pytest.mark.parametrize(
    "geometry",  # kernel, stride, padding, dilation
    [(3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (3, 2, 0, 1), ((3, 1), (1, 2), (1, 0), 1), (1, 2, 0, 1)],
)
@pytest.mark.parametrize("learns_input", [True, False])
def test_gradients_are_those_of_the_convolution(
    geometry: tuple[Any, ...],
    *,
    size_hw: tuple[int, int],
    learns_input: bool,
    used: list[object],
) -> None:
    torch.manual_seed(0)
    like = nn.Conv2d(6, 4, *geometry)
    x = torch.randn(2, 6, *size_hw).contiguous(memory_format=torch.channels_last).requires_grad_(learns_input)
    weight, bias = like.weight.detach().clone().requires_grad_(), torch.randn(4, requires_grad=True)

    y = convolve(x, weight, bias, like=like)
    weighting = torch.randn(y.shape)
    leaves = [x, weight, bias] if learns_input else [weight, bias]
    found = torch.autograd.grad((y * weighting).sum(), leaves)

    exact = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    _, stride, padding, dilation = geometry
    expected_y = F.conv2d(exact[0], exact[1], exact[2], stride, padding, dilation)
    expected = torch.autograd.grad((expected_y * weighting.double()).sum(), exact if learns_input else exact[1:])
    for result, wanted in zip((y, *found), (expected_y, *expected), strict=True):
        torch.testing.assert_close(result.double(), wanted, rtol=1e-5, atol=1e-5)
    assert used == [like.kernel_size]


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, x: (layer.requires_grad_(False), x),
        lambda layer, x: (layer, x.contiguous()),
        lambda layer, x: (nn.Conv2d(2, 6, 3), x[:, :2].contiguous(memory_format=torch.channels_last)),
        lambda layer, x: (nn.Conv2d(6, 6, 1), x),
        lambda layer, x: (nn.Conv2d(6, 6, 3, groups=2), x),
        lambda layer, x: (nn.Conv2d(6, 6, 3, padding="same"), x),
        lambda layer, x: (nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"), x),
    ],
    ids=["frozen", "layout", "narrow", "1 x 1", "groups", "same", "reflect"],
)
def test_others_are_left_to_torch(
    change: Callable[[nn.Conv2d, torch.Tensor], tuple[nn.Conv2d, torch.Tensor]], used: list[object]
) -> None:
    x = torch.randn(1, 6, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    layer, x = change(nn.Conv2d(6, 6, 3, padding=1), x)
    assert layer.bias is not None
    convolve(x, layer.weight, layer.bias, like=layer).sum().backward()
    assert used == []


def test_wider_instructions_and_bf16_are_left_to_torch(used: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = nn.Conv2d(6, 6, 3), torch.randn(1, 6, 8, 8).contiguous(memory_format=torch.channels_last)
    assert layer.bias is not None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert convolve(x, layer.weight, layer.bias, like=layer).dtype == torch.bfloat16
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    convolve(x, layer.weight, layer.bias, like=layer).sum().backward()
    assert used == []
