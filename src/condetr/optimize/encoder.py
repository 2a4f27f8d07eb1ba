"""The encoder with queries, keys and values in one product, and positions that were projected before."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.layers.encoder import EncoderLayer
from condetr.layers.mlp import FeedForward
from condetr.optimize.attention import attend, split_heads
from condetr.optimize.onednn import Projection


class FastEncoderLayer(nn.Module):
    """An encoder layer: W (x + p) is W x + W p, and W p is the same for all images of a size."""

    def __init__(self, layer: EncoderLayer, *, dtype: torch.dtype) -> None:
        super().__init__()
        attention = layer.self_attention
        self.num_heads = attention.attend.num_heads
        self.projection = Projection(attention.in_proj_weight.to(dtype), attention.in_proj_bias.to(dtype))
        self.output = Projection.of(attention.out_proj, dtype=dtype)
        self.attention_norm = FastNorm(layer.self_attention_norm, dtype=dtype)
        self.feedforward = FastFeedForward(layer.feedforward, dtype=dtype)
        self.feedforward_norm = FastNorm(layer.feedforward_norm, dtype=dtype)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        positions: Float[Tensor, "#B S 2*D"],
        key_is_padding: Bool[Tensor, "B S"] | None,
    ) -> Float[Tensor, "B S D"]:
        """Attend, then feed forward; `positions` are projected to queries and keys."""
        projected = self.projection(x)
        projected[..., : positions.shape[-1]] += positions
        query, key, value = (split_heads(part, num_heads=self.num_heads) for part in projected.chunk(3, dim=-1))
        attended = self.output(attend(query, key, value, key_is_padding=key_is_padding))
        x = self.attention_norm(attended.add_(x))
        return self.feedforward_norm(self.feedforward(x).add_(x))  # type: ignore[no-any-return]


class FastFeedForward(nn.Module):
    """The two-layer network, its ReLU within the first product."""

    def __init__(self, layer: FeedForward, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.linear1 = Projection.of(layer.linear1, dtype=dtype, relu=True)
        self.linear2 = Projection.of(layer.linear2, dtype=dtype)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Return the residual to be added to `x`."""
        return self.linear2(self.linear1(x))  # type: ignore[no-any-return]


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
