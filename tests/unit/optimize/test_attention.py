import pytest
import torch
from torch import Tensor

from condetr.layers.attention import DotProductAttention
from condetr.optimize.attention import FastAttention
from condetr.optimize.dropout import FastDropout


@pytest.mark.parametrize("is_padded", [False, True], ids=["unpadded", "padded"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=["fp32", "bf16"])
def test_attention_with_dropout_and_its_gradients_are_those_of_its_formula(
    *, is_padded: bool, dtype: torch.dtype, tolerance: float
) -> None:
    parts = inputs(dtype)
    key_is_padding = torch.arange(30).expand(2, -1) >= torch.tensor([[30], [20]]) if is_padded else None
    attention = FastAttention(DotProductAttention(2, dropout=0.25))
    torch.manual_seed(5)
    attended = attention.dot_product(*parts, key_is_padding=key_is_padding)
    weighting = torch.randn(attended.shape).to(dtype)
    gradients = torch.autograd.grad((attended * weighting).sum(), parts)

    torch.manual_seed(5)
    kept = FastDropout(0.25)(torch.ones(2, 2, 24, 30)).double()
    exact = [tensor.detach().double().requires_grad_() for tensor in parts]
    expected = formula(*exact, kept=kept, key_is_padding=key_is_padding)
    expected_gradients = torch.autograd.grad((expected * weighting.double()).sum(), exact)

    for found, wanted in zip((attended, *gradients), (expected, *expected_gradients), strict=True):
        assert ((found.double() - wanted).norm() / wanted.norm()).item() < tolerance


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_without_dropout_values_narrower_than_keys_are_attended_to_as_they_are(dropout: float) -> None:
    parts = inputs(torch.float32)
    key_is_padding = torch.arange(30).expand(2, -1) >= torch.tensor([[30], [20]])
    plain = DotProductAttention(2, dropout=dropout).eval()

    fast = FastAttention(plain).eval().dot_product(*parts, key_is_padding=key_is_padding)

    torch.testing.assert_close(fast, plain.dot_product(*parts, key_is_padding=key_is_padding))


def inputs(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((24, 8), (30, 8), (30, 4))
    return [torch.randn(2, 2, *size, generator=generator).to(dtype).requires_grad_() for size in sizes]


def formula(query: Tensor, key: Tensor, value: Tensor, *, kept: Tensor, key_is_padding: Tensor | None) -> Tensor:
    logits = query @ key.mT / query.shape[-1] ** 0.5
    if key_is_padding is not None:
        logits = logits.masked_fill(key_is_padding[:, None, None], -torch.inf)
    attended: Tensor = logits.softmax(-1) * kept @ value
    return attended
