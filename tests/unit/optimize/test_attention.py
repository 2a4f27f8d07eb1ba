from functools import partial

import pytest
import torch
from torch.nn import functional as F

from condetr.optimize import attention
from condetr.optimize.attention import _attend_at_once, _attend_in_blocks


@pytest.mark.parametrize("is_padded", [False, True], ids=["unpadded", "padded"])
@pytest.mark.parametrize("size", [1, 100], ids=["bounded", "overflowing"])
def test_both_ways_agree_with_torch(*, is_padded: bool, size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, 2, length, 8, generator=generator) for length in (700, 33))
    query = size * query  # at 100, the exponentials of the logits are larger than any number of fp32
    value = torch.randn(2, 2, 33, 4, generator=generator)
    key_is_padding = torch.arange(33).expand(2, -1) >= torch.tensor([[33], [20]]) if is_padded else None
    mask = None if key_is_padding is None else ~key_is_padding[:, None, None]

    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    for attend in (_attend_at_once, partial(_attend_in_blocks, logits=torch.float32)):
        # torch's tolerances, times what the rounding of the logits grows by
        torch.testing.assert_close(attend(query, key, value, key_is_padding), expected, rtol=1.3e-6, atol=1e-5 * size)


@pytest.mark.parametrize("logits", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("size", [1, 100], ids=["bounded", "overflowing"])
def test_blocks_make_no_difference(logits: torch.dtype, *, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 20, 8, generator=generator).to(logits) for _ in range(3))
    key_is_padding = torch.arange(20).expand(2, -1) >= torch.tensor([[20], [15]])
    arguments = size * query, key, value, key_is_padding

    whole = _attend_in_blocks(*arguments, logits=logits)
    monkeypatch.setattr(attention, "BLOCK_BYTES", 1000)  # 8 or 12 of the 20 queries

    torch.testing.assert_close(_attend_in_blocks(*arguments, logits=logits), whole)
    expected = _attend_at_once(size * query.float(), key.float(), value.float(), key_is_padding)
    error = (whole.float() - expected).abs().mean()
    assert error < (1e-6 if logits == torch.float32 else 0.01)


def test_keys_keep_their_precision_beside_bf16_queries() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, length, 8, generator=generator) for length in (50, 33))
    query, value = query.bfloat16(), torch.randn(1, 2, 33, 4, generator=generator).bfloat16()
    key = 100 * key  # rounded to bf16, their logits are off by 0.13 on average and 1.2 at most
    rounded = key.bfloat16().float()
    expected, coarse = (F.scaled_dot_product_attention(query.float(), k, value.float()) for k in (key, rounded))

    for attend in (_attend_at_once, partial(_attend_in_blocks, logits=torch.float32)):
        error = (attend(query, key, value, None).float() - expected).abs().mean()
        assert error < 0.25 * (coarse - expected).abs().mean()
