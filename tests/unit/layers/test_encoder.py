import pytest
import torch
from torch import nn
from torch.nn import functional as F

from condetr.layers.encoder import NormFirstEncoder, NormFirstEncoderLayer

DIM, HEADS = 8, 2
IS_PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


def encoder() -> NormFirstEncoder:
    torch.manual_seed(0)
    layers = [NormFirstEncoderLayer(DIM, num_heads=HEADS, hidden_dim=12, dropout=0.0) for _ in range(2)]
    found = NormFirstEncoder(layers, dim=DIM)
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.5)
    return found


def of_torch(ours: NormFirstEncoder) -> nn.TransformerEncoder:
    """Return torch's encoder, which has no positions, with the same weights."""
    layer = nn.TransformerEncoderLayer(DIM, HEADS, 12, dropout=0.0, batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(DIM), enable_nested_tensor=False)
    parts = {
        "self_attention.": "self_attn.",
        "self_attention_norm.": "norm1.",
        "feedforward_norm.": "norm2.",
        "feedforward.": "",
    }
    state = {}
    for name, tensor in ours.state_dict().items():
        for our_part, their_part in parts.items():
            name = name.replace(our_part, their_part)
        state[name] = tensor
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("is_padding", [None, IS_PADDING])
def test_without_positions_it_is_the_encoder_of_torch(is_padding: torch.Tensor | None) -> None:
    ours, x = encoder(), torch.randn(2, 5, DIM)
    found = ours(x, positions=torch.zeros_like(x), is_padding=is_padding)
    expected = of_torch(ours)(x, src_key_padding_mask=is_padding)
    kept = slice(None) if is_padding is None else ~is_padding
    torch.testing.assert_close(found[kept], expected[kept], atol=1e-5, rtol=1e-5)


def test_positions_are_in_queries_and_keys_but_not_in_values() -> None:
    layer = encoder().layers[0]
    assert isinstance(layer, NormFirstEncoderLayer)
    x, positions = torch.randn(2, 5, DIM), torch.randn(2, 5, DIM)
    normed = layer.self_attention_norm(x)
    placed = (normed + positions).transpose(0, 1)
    attended, _ = F.multi_head_attention_forward(
        placed,
        placed,
        normed.transpose(0, 1),
        embed_dim_to_check=DIM,
        num_heads=HEADS,
        in_proj_weight=layer.self_attention.in_proj_weight,
        in_proj_bias=layer.self_attention.in_proj_bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=layer.self_attention.out_proj.weight,
        out_proj_bias=layer.self_attention.out_proj.bias,
    )
    expected = x + attended.transpose(0, 1)
    expected = expected + layer.feedforward(layer.feedforward_norm(expected))
    torch.testing.assert_close(layer(x, positions=positions, is_padding=None), expected, atol=1e-5, rtol=1e-5)
