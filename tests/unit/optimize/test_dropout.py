import pytest
import torch
from torch import Tensor

from condetr.optimize.dropout import FastDropout, draw_signs, kept_scale
from condetr.optimize.onednn import has_bf16_kernels
from condetr.optimize.training_attention import TrainingAttention


def test_elements_are_dropped_with_the_probability_that_was_asked_for() -> None:
    torch.manual_seed(0)
    dropped = 1 - FastDropout(0.1)(torch.ones(1000, 1001)).bool().double().mean()

    assert float(dropped) == pytest.approx(0.1, abs=0.002)


def test_the_mean_stays_and_elements_that_stay_are_all_alike() -> None:
    torch.manual_seed(0)
    result = FastDropout(0.3)(torch.ones(1000, 1000))

    assert float(result.mean()) == pytest.approx(1, abs=0.005)
    assert result.unique().tolist() == pytest.approx([0, 1 / 0.7], abs=1e-4)


def test_masks_follow_the_seed_and_differ_from_call_to_call() -> None:
    torch.manual_seed(3)
    first, second = (draw_signs(torch.Size([64, 3]), p=0.5) for _ in range(2))
    torch.manual_seed(3)

    assert torch.equal(first, draw_signs(torch.Size([64, 3]), p=0.5))
    assert not torch.equal(first, second)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (draw_signs(torch.Size([200_000, 8]), p=0.2) != 0).double()

    correlations = torch.corrcoef(dropped.T).fill_diagonal_(0)
    assert float(correlations.abs().max()) < 0.01


def test_nothing_is_dropped_outside_training() -> None:
    x = torch.randn(5, 4)

    assert torch.equal(FastDropout(0.5).eval()(x), x)


@pytest.mark.parametrize("is_padded", [False, True], ids=["unpadded", "padded"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=["fp32", "bf16"])
def test_large_attention_and_its_gradients_are_those_of_its_formula(
    *, is_padded: bool, dtype: torch.dtype, tolerance: float
) -> None:
    if dtype == torch.bfloat16 and not has_bf16_kernels():
        pytest.skip("oneDNN does not compute in bf16 on this processor")
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, 2, length, width, generator=generator).to(dtype).requires_grad_()
        for length, width in ((120, 8), (150, 8), (150, 4))
    )
    key_is_padding = torch.arange(150).expand(2, -1) >= torch.tensor([[150], [100]]) if is_padded else None
    attention = TrainingAttention(2, dropout=0.25)
    torch.manual_seed(5)
    attended = attention.dot_product(query, key, value, key_is_padding=key_is_padding)
    weighting = torch.randn(attended.shape, generator=generator).to(dtype)
    gradients = torch.autograd.grad((attended * weighting).sum(), (query, key, value))

    torch.manual_seed(5)
    kept = (draw_signs(torch.Size([2, 2, 120, 150]), p=0.25) == 0).double() * kept_scale(0.25)
    exact = [tensor.detach().double().requires_grad_() for tensor in (query, key, value)]
    expected = formula(*exact, kept=kept, key_is_padding=key_is_padding)
    expected_gradients = torch.autograd.grad((expected * weighting.double()).sum(), exact)

    for found, wanted in zip((attended, *gradients), (expected, *expected_gradients), strict=True):
        assert ((found.double() - wanted).norm() / wanted.norm()).item() < tolerance


def formula(query: Tensor, key: Tensor, value: Tensor, *, kept: Tensor, key_is_padding: Tensor | None) -> Tensor:
    logits = query @ key.mT / query.shape[-1] ** 0.5
    if key_is_padding is not None:
        logits = logits.masked_fill(key_is_padding[:, None, None], -torch.inf)
    attended: Tensor = logits.softmax(-1) * kept @ value
    return attended
