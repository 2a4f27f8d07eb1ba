"""Attention: scaled dot products in heads, and the multi-head module with one fused input projection."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F


class DotProductAttention(nn.Module):
    """Scaled dot-product attention whose queries and keys consist of parts that are concatenated per head.

    The logits of a head are then the sum of its parts' logits. The scale is (width of the concatenated head)^-1/2.
    It has no parameters: callers project.
    """

    def __init__(self, num_heads: int, *, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout

    def forward(
        self,
        query_parts: Sequence[Float[Tensor, "B Q D"]],
        key_parts: Sequence[Float[Tensor, "B S D"]],
        value: Float[Tensor, "B S D"],
        *,
        key_is_padding: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Attend to the keys that are not padding."""
        query, key, value = (
            torch.cat([self.split_heads(part) for part in parts], dim=-1) for parts in (query_parts, key_parts, [value])
        )
        attended = self.dot_product(query, key, value, key_is_padding=key_is_padding)
        return attended.transpose(1, 2).flatten(2)

    def dot_product(
        self,
        query: Float[Tensor, "B M Q D_key"],
        key: Float[Tensor, "B M S D_key"],
        value: Float[Tensor, "B M S D_value"],
        *,
        key_is_padding: Bool[Tensor, "B S"] | None,
    ) -> Float[Tensor, "B M Q D_value"]:
        """Return dropout(softmax(q k / sqrt(d))) v for every head."""
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if key_is_padding is None else ~key_is_padding[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )

    def split_heads(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B M N D_head"]:
        """Split the channels into heads."""
        batch, length, dim = x.shape
        return x.view(batch, length, self.num_heads, dim // self.num_heads).transpose(1, 2)


class MultiHeadAttention(nn.Module):
    """Multi-head attention with the parameters of torch.nn.MultiheadAttention: query, key and value in one matrix."""

    project = staticmethod(F.linear)

    def __init__(self, dim: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim must be divisible by num_heads, got {dim} and {num_heads}")
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        self.attend = DotProductAttention(num_heads, dropout=dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        *,
        query: Float[Tensor, "B Q D"],
        key: Float[Tensor, "B S D"],
        value: Float[Tensor, "B S D"],
        key_is_padding: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Project, attend to the keys that are not padding, project."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (self.project(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
        attended: Tensor = self.out_proj(self.attend([q], [k], v, key_is_padding=key_is_padding))
        return attended


def is_one_sum(cross_attention: nn.Module) -> bool:
    """Tell whether content and position are added into one query and one key, as in DETR."""
    return isinstance(cross_attention, MultiHeadAttention)
