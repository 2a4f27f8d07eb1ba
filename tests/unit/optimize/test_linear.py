import pytest
import torch
from torch import nn

from condetr.layers.attention import MultiHeadAttention
from condetr.optimize.linear import ConvolvedLinear, ConvolvedMultiHeadAttention, convolve


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6), (4, 2, 3, 6), (0, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients_are_those_of_the_layer(shape: tuple[int, ...], *, bias: bool) -> None:
    linear = nn.Linear(6, 5, bias=bias)
    fast = ConvolvedLinear(linear)
    x, weighting = torch.randn(shape, requires_grad=True), torch.randn(*shape[:-1], 5)

    results = [
        [y, *torch.autograd.grad((y * weighting).sum(), [x, *linear.parameters()])] for y in (linear(x), fast(x))
    ]

    torch.testing.assert_close(*results)
    assert list(fast.state_dict()) == list(linear.state_dict())


def test_multi_head_attention_stays_the_same() -> None:
    attention = MultiHeadAttention(16, num_heads=2, dropout=0.0)
    query, key = torch.randn(2, 3, 16), torch.randn(2, 5, 16)

    fast = ConvolvedMultiHeadAttention(attention)

    results = [each(query=query, key=key, value=key) for each in (attention, fast)]
    torch.testing.assert_close(*results)
    assert dict(fast.named_parameters()).keys() == dict(attention.named_parameters()).keys()


def test_bf16_is_left_to_the_kernel_of_linear_layers() -> None:
    x, weight = torch.randn(4, 6), torch.randn(5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert convolve(x, weight).dtype == torch.bfloat16
