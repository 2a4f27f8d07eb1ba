"""Attention on a CPU, where torch's kernel is slow with dropout, and where values are narrower than keys.

With dropout, the kernel samples its mask one number after the other. With this attention, a step of Conditional
DETR-R50 on two images of 480 x 640 takes 0.79 of its time (bf16; in fp32 0.93; two cores of an AMD EPYC, Zen 5).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from condetr.layers.attention import DotProductAttention
from condetr.optimize.dropout import FastDropout


class FastAttention(DotProductAttention):
    """Scaled dot-product attention: with dropout its formula; in evaluation values as wide as the keys."""

    def __init__(self, attention: DotProductAttention) -> None:
        super().__init__(attention.num_heads, dropout=attention.dropout)
        self.drop = FastDropout(attention.dropout)

    def dot_product(
        self,
        query: Float[Tensor, "B M Q D_key"],
        key: Float[Tensor, "B M S D_key"],
        value: Float[Tensor, "B M S D_value"],
        *,
        key_is_padding: Bool[Tensor, "B S"] | None,
    ) -> Float[Tensor, "B M Q D_value"]:
        """Return dropout(softmax(q k / sqrt(d))) v for every head."""
        if not self.training:
            width = value.shape[-1]
            padded = F.pad(value, (0, key.shape[-1] - width)) if width < key.shape[-1] else value
            return super().dot_product(query, key, padded, key_is_padding=key_is_padding)[..., :width]
        if not self.dropout:
            return super().dot_product(query, key, value, key_is_padding=key_is_padding)
        logits = (query * query.shape[-1] ** -0.5) @ key.mT
        if key_is_padding is not None:
            logits = logits.masked_fill(key_is_padding[:, None, None, :], -torch.inf)
        weights: Tensor = self.drop(logits.softmax(-1).to(value.dtype))
        return weights @ value
