import pytest
import torch

from condetr.layers.attention import DotProductAttention, MultiHeadAttention


def test_multi_head_attention_agrees_with_torch() -> None:
    ours, theirs = MultiHeadAttention(8, num_heads=2, dropout=0.0), torch.nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    is_padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    expected, _ = theirs(query, key, value, key_padding_mask=is_padding)
    torch.testing.assert_close(ours(query=query, key=key, value=value, key_is_padding=is_padding), expected)


def test_parts_add_their_logits_in_every_head() -> None:
    attend = DotProductAttention(2, dropout=0.0)
    content_q, spatial_q = torch.randn(1, 3, 8), torch.randn(1, 3, 8)
    content_k, spatial_k, value = torch.randn(1, 5, 8), torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    split = attend.split_heads
    logits = split(content_q) @ split(content_k).mT + split(spatial_q) @ split(spatial_k).mT
    expected = ((logits / 8**0.5).softmax(-1) @ split(value)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attend([content_q, spatial_q], [content_k, spatial_k], value), expected)


def test_padded_keys_do_not_change_the_result() -> None:
    attend = DotProductAttention(2, dropout=0.0)
    query, key, value = torch.randn(1, 3, 8), torch.randn(1, 5, 8), torch.randn(1, 5, 8)
    is_padding = torch.tensor([[False, False, False, True, True]])
    expected = attend([query], [key[:, :3]], value[:, :3])
    torch.testing.assert_close(attend([query], [key], value, key_is_padding=is_padding), expected)


def test_dim_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="got 8 and 3"):
        MultiHeadAttention(8, num_heads=3, dropout=0.0)
