"""Scaled dot-product attention without dropout, by the kernel that is fastest where it runs."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from condetr.optimize.onednn import is_usable, product
from condetr.optimize.precision import has_matrix_tiles

BLOCK_BYTES = 16 * 2**20
"""Attention weights that are in memory at once; with 2 MiB, 8 heads of 850 x 850 take up to a seventh longer."""
EXPONENT_BOUND = 64.0
"""Powers of 2 up to here, in both directions, and their sums, are far from the ends of the number formats."""


def attend(
    query: Float[Tensor, "B M Q D_key"],
    key: Float[Tensor, "B M S D_key"],
    value: Float[Tensor, "B M S D_value"],
    *,
    key_is_padding: Bool[Tensor, "B S"] | None,
    logits: torch.dtype | None = None,
) -> Float[Tensor, "B Q M*D_value"]:
    """Attend to the keys that are not padding; the heads' results are side by side.

    `logits` is the number format of q k, by default that of the query. Boxes are located by the cross-attention: with
    its logits or its positional keys in bf16, a small detector loses 0.4 points of AP, with all else in bf16 none.
    Keys may therefore be in fp32 where queries and values are not.
    """
    if is_usable(query) and not has_matrix_tiles() and not torch.compiler.is_compiling():
        attended = _attend_in_blocks(query, key, value, key_is_padding, logits=logits or query.dtype)
    else:  # torch's kernel has fp32 logits
        attended = _attend_at_once(query, key, value, key_is_padding)
    return attended.transpose(1, 2).flatten(2)


def split_heads(x: Float[Tensor, "B N D"], *, num_heads: int) -> Float[Tensor, "B M N D_head"]:
    """Cut the channels into heads."""
    return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)


def _attend_at_once(
    query: Float[Tensor, "B M Q D_key"],
    key: Float[Tensor, "B M S D_key"],
    value: Float[Tensor, "B M S D_value"],
    key_is_padding: Bool[Tensor, "B S"] | None,
) -> Float[Tensor, "B M Q D_value"]:
    """Call torch's kernel.

    It wants one number format: an fp32 key is two bf16 terms, q (k + e) = (q, q) (k, e). Its fast forms want values as
    wide as the keys: zeros appended to the values are zeros appended to the result.
    """
    scale = query.shape[-1] ** -0.5
    if key.dtype != query.dtype:
        rounded = key.to(query.dtype)
        query, key = torch.cat([query, query], dim=-1), torch.cat([rounded, (key - rounded).to(query.dtype)], dim=-1)
    width = value.shape[-1]
    padded = F.pad(value, (0, key.shape[-1] - width))
    mask = None if key_is_padding is None else ~key_is_padding[:, None, None, :]
    return F.scaled_dot_product_attention(query, key, padded, attn_mask=mask, scale=scale)[..., :width]


def _attend_in_blocks(
    query: Float[Tensor, "B M Q D_key"],
    key: Float[Tensor, "B M S D_key"],
    value: Float[Tensor, "B M S D_value"],
    key_is_padding: Bool[Tensor, "B S"] | None,
    *,
    logits: torch.dtype,
) -> Float[Tensor, "B M Q D_value"]:
    """Write out softmax(q k / sqrt(d)) v for a block of queries at a time, of one head or in bf16 of all.

    torch's kernel has bf16 products for AMX alone, and its fp32 ones are MKL's. On one core of an AMD EPYC, 8 heads of
    300 x 850 (key width 64) take 7 ms there and 4 to 5 here, in fp32 850 x 850 take 11 ms and 9. On two cores, in bf16,
    all heads at once take 2.9 ms for 300 x 850 with fp32 logits, one after the other 4.5.
    """
    scale = query.shape[-1] ** -0.5
    in_base_2 = _bound(query, key) * scale * math.log2(math.e) < EXPONENT_BOUND
    if in_base_2:
        scale *= math.log2(math.e)
    query, key, value = (query.to(logits) * scale).contiguous(), key.to(logits).contiguous(), value.contiguous()
    images, num_heads, queries, _ = query.shape
    # In memory, a query's heads are side by side: what `attend` returns is a view of it.
    attended = value.new_empty(images, queries, num_heads, value.shape[-1]).transpose(1, 2)
    together = value.dtype == torch.bfloat16
    rows = max(BLOCK_BYTES // (key.shape[2] * logits.itemsize * (num_heads if together else 1)), 1)
    for image, heads in enumerate(zip(query, key, value, attended, strict=True)):
        for q, k, v, result in [heads] if together else zip(*heads, strict=True):
            for q_block, result_block in zip(q.split(rows, dim=-2), result.split(rows, dim=-2), strict=True):
                exponents = product(q_block, k)
                if key_is_padding is not None:
                    exponents.masked_fill_(key_is_padding[image], -torch.inf)
                result_block.copy_(_average(v, exponents, in_base_2=in_base_2))
    return attended


def _average(
    value: Float[Tensor, "*heads S D"], exponents: Float[Tensor, "*heads Q S"], *, in_base_2: bool
) -> Float[Tensor, "*heads Q D"]:
    """Return softmax(exponents) v, for bounded exponents of 2 or any of e; the exponents are overwritten.

    A softmax subtracts the largest exponent from the others lest their powers overflow. Those of 2 cannot, so that they
    are raised as they are, and divided by their sum after the product, which is narrower: a fifth less time in bf16.
    """
    if not in_base_2:
        return product(exponents.softmax(-1).to(value.dtype), value.mT)
    weights = exponents.exp2_()
    return product(weights.to(value.dtype), value.mT) / weights.sum(-1, keepdim=True)


def _bound(query: Float[Tensor, "B M Q D"], key: Float[Tensor, "B M S D"]) -> float:
    """Return what no q k exceeds in size (Cauchy-Schwarz)."""
    return float(query.norm(dim=-1).amax() * key.norm(dim=-1).amax())
