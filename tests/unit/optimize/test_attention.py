"""Both ways to attend give what torch's attention gives on unscaled queries and positions written out."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from condetr.optimize import attention
from condetr.optimize.attention import Places, _attend_at_once, _attend_in_blocks, query_scale

WAYS = (_attend_at_once, _attend_in_blocks)
HEIGHT, WIDTH = 3, 11
PADDED = torch.arange(33).expand(2, -1) >= torch.tensor([[33], [20]])


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draw_places() -> Places:
    return Places(draw(2, 2, 50, 8, seed=3), draw(1, 2, HEIGHT, 8, seed=4), draw(1, 2, WIDTH, 8, seed=5))


def expect(query: Tensor, key: Tensor, value: Tensor, key_is_padding: Tensor | None, places: Places | None) -> Tensor:
    if places is not None:
        cells = [(row, column) for row in range(HEIGHT) for column in range(WIDTH)]
        position = torch.stack([places.row_keys[:, :, y] + places.column_keys[:, :, x] for y, x in cells], dim=2)
        query = torch.cat([query, places.query], dim=-1)
        key = torch.cat([key, position.expand_as(key)], dim=-1)
    mask = None if key_is_padding is None else ~key_is_padding[:, None, None]
    return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask)


def scaled(query: Tensor, places: Places | None, *, size: float = 1) -> tuple[Tensor, Places | None]:
    """Return queries as both ways want them, `size` times as large."""
    if places is None:
        return query * (size * query_scale(query.shape[-1])), None
    scale = size * query_scale(query.shape[-1] + places.query.shape[-1])
    return query * scale, places._replace(query=places.query * scale)


@pytest.mark.parametrize("has_places", [False, True], ids=["contents", "contents and places"])
@pytest.mark.parametrize("key_is_padding", [None, PADDED], ids=["unpadded", "padded"])
@pytest.mark.parametrize("size", [1, 100], ids=["bounded", "overflowing"])
def test_both_ways_agree_with_torch(*, has_places: bool, key_is_padding: Tensor | None, size: float) -> None:
    query, key, value = draw(2, 2, 50, 8, seed=0), draw(2, 2, 33, 8, seed=1), draw(2, 2, 33, 4, seed=2)
    places = draw_places() if has_places else None
    # At 100, the exponentials of the logits are larger than any number of fp32.
    larger = None if places is None else places._replace(query=size * places.query)
    expected = expect(size * query, key, value, key_is_padding, larger)

    inputs = scaled(query, places, size=size)
    for attend in WAYS:
        found = attend(inputs[0], key, value, key_is_padding, inputs[1])
        # torch's tolerances, times what the rounding of the logits grows by
        torch.testing.assert_close(found, expected, rtol=1.3e-6, atol=1e-5 * size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("size", [1, 100], ids=["bounded", "overflowing"])
def test_blocks_make_no_difference(dtype: torch.dtype, *, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = (draw(2, 2, length, 8, seed=length).to(dtype) for length in (50, 33, 33))
    for places in (None, draw_places()):
        inputs = scaled(query, places, size=size)
        whole = _attend_in_blocks(inputs[0], key, value, PADDED, inputs[1])
        with monkeypatch.context() as patch:
            patch.setattr(attention, "BLOCK_BYTES", 4000)  # 7 to 30 of the 50 queries
            torch.testing.assert_close(_attend_in_blocks(inputs[0], key, value, PADDED, inputs[1]), whole)

        larger = None if places is None else places._replace(query=size * places.query)
        error = (whole.float() - expect(size * query, key, value, PADDED, larger)).abs().mean()
        assert error < (2e-6 if dtype == torch.float32 else 0.03 if size > 1 else 0.01)


def test_positions_keep_their_precision_beside_bf16_contents() -> None:
    query, key, value = (draw(2, 2, length, 8, seed=length).bfloat16() for length in (50, 33, 33))
    places = draw_places()
    # Rounded to bf16, the logits of keys that large are off by 0.1 on average.
    exact = Places(places.query.bfloat16(), 100 * places.row_keys, 100 * places.column_keys)
    scale = query_scale(16)
    unscaled = [
        places._replace(query=places.query.float() / scale) for places in (exact, Places(*map(round_off, exact)))
    ]
    expected, coarse = (expect(query.float() / scale, key, value, None, places) for places in unscaled)

    for attend in WAYS:
        error = (attend(query, key, value, None, exact).float() - expected).abs().mean()
        assert error < 0.25 * (coarse - expected).abs().mean()


def round_off(x: Tensor) -> Tensor:
    return x.bfloat16().float()
