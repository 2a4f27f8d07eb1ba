"""The encoder with queries, keys and values in one product, and positions that are projected in advance."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.layers.attention import MultiHeadAttention
from condetr.layers.encoder import EncoderLayer
from condetr.layers.mlp import FeedForward
from condetr.optimize.attention import attend, query_scale, split_heads
from condetr.optimize.onednn import Projection


class FastEncoderLayer(nn.Module):
    """An encoder layer: W (x + p) is W x + W p, and W p is the same for all images of a size."""

    def __init__(self, layer: EncoderLayer, *, dtype: torch.dtype) -> None:
        super().__init__()
        attention = layer.self_attention
        self.num_heads = attention.attend.num_heads
        weight, bias = scaled_queries(attention)
        self.projection = Projection(weight.to(dtype), bias.to(dtype))
        self.output = Projection.of(attention.out_proj, dtype=dtype)
        self.attention_norm = FastNorm(layer.self_attention_norm, dtype=dtype)
        self.feedforward = FastFeedForward(layer.feedforward, dtype=dtype)
        self.feedforward_norm = FastNorm(layer.feedforward_norm, dtype=dtype)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        positions: Float[Tensor, "#B S 3*D"],
        key_is_padding: Bool[Tensor, "B S"] | None,
    ) -> Float[Tensor, "B S D"]:
        """Attend, then feed forward; `positions` are projected to queries and keys, with zeros for values."""
        projected = self.projection(x, positions)
        query, key, value = (split_heads(part, num_heads=self.num_heads) for part in projected.chunk(3, dim=-1))
        x = self.attention_norm(self.output(attend(query, key, value, key_is_padding=key_is_padding), x))
        return self.feedforward_norm(self.feedforward(x, x))  # type: ignore[no-any-return]


def scaled_queries(attention: MultiHeadAttention) -> tuple[Float[Tensor, "D_out D_in"], Float[Tensor, " D_out"]]:
    """Return the weight and bias of the input projection, with queries scaled for `attend`."""
    weight, bias = attention.in_proj_weight.detach(), attention.in_proj_bias.detach()
    scale = torch.ones_like(bias)
    scale[: len(scale) // 3] = query_scale(weight.shape[1] // attention.attend.num_heads)
    return weight * scale[:, None], bias * scale


class FastFeedForward(nn.Module):
    """The two-layer network, with the ReLU fused into the first product."""

    def __init__(self, layer: FeedForward, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.linear1 = Projection.of(layer.linear1, dtype=dtype, relu=True)
        self.linear2 = Projection.of(layer.linear2, dtype=dtype)

    def forward(self, x: Float[Tensor, "B N D"], total: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Return `total` plus the network of `x`."""
        return self.linear2(self.linear1(x), total)  # type: ignore[no-any-return]


class FastNorm(nn.Module):
    """A layer norm with fixed weights in another number format."""

    def __init__(self, norm: nn.LayerNorm, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.eps = norm.eps
        self.register_buffer("weight", norm.weight.detach().to(dtype), persistent=False)
        self.register_buffer("bias", norm.bias.detach().to(dtype), persistent=False)

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Normalise the last axis."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)  # type: ignore[arg-type]
