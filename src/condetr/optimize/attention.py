"""Scaled dot-product attention without dropout, with the fastest kernel for the device.

Queries are scaled by `query_scale`, so that the weights of a softmax are powers of 2 divided by their sum.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from condetr.optimize.machine import has_matrix_tiles
from condetr.optimize.onednn import is_usable, product

BLOCK_BYTES = 16 * 2**20
"""Bytes of attention weights in memory at once; with 2 MiB, 8 heads of 850 x 850 take up to a seventh longer."""
SAFE_EXPONENT = 100.0
"""Powers of 2 with exponents up to this size, and their sums, neither overflow nor underflow."""


class Places(NamedTuple):
    """The spatial part of the logits, added to the content part: fp32 products of queries and positional keys.

    A sine embedding has channels of y and channels of x, and projections are linear: the positional key of the cell in
    row y and column x is the sum of one for the row and one for the column: H + W keys instead of H W.
    """

    query: Float[Tensor, "B M Q D"]
    row_keys: Float[Tensor, "#B M H D"]
    column_keys: Float[Tensor, "#B M W D"]


def query_scale(width: int) -> float:
    """Return the factor of the queries: 2^(q k) is then e^(q k / sqrt(width)) of the unscaled query."""
    return math.log2(math.e) / math.sqrt(width)


def split_heads(x: Float[Tensor, "B N D"], *, num_heads: int) -> Float[Tensor, "B M N D_head"]:
    """Split the channels into heads."""
    return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)


def attend(
    query: Float[Tensor, "B M Q D_key"],
    key: Float[Tensor, "B M S D_key"],
    value: Float[Tensor, "B M S D_value"],
    *,
    key_is_padding: Bool[Tensor, "B S"] | None,
    places: Places | None = None,
) -> Float[Tensor, "B Q M*D_value"]:
    """Attend to the keys that are not padding; return the concatenated heads.

    The spatial part of the cross-attention locates boxes: with its keys or logits in bf16, a small detector loses 0.004
    of AP; with everything else in bf16, it loses none.
    """
    if is_usable(query) and not has_matrix_tiles() and not torch.compiler.is_compiling():
        attended = _attend_in_blocks(query, key, value, key_is_padding, places)
    else:  # torch's kernel has fp32 logits
        attended = _attend_at_once(query, key, value, key_is_padding, places)
    return attended.transpose(1, 2).flatten(2)


def _attend_at_once(
    query: Float[Tensor, "B M Q D_key"],
    key: Float[Tensor, "B M S D_key"],
    value: Float[Tensor, "B M S D_value"],
    key_is_padding: Bool[Tensor, "B S"] | None,
    places: Places | None,
) -> Float[Tensor, "B M Q D_value"]:
    """Call torch's kernel.

    It needs one number format: fp32 keys with bf16 queries become two bf16 terms, q (k + e) = (q, q) (k, e). Its fast
    forms need values as wide as the keys: zeros appended to the values only append zeros to the result.
    """
    if places is not None:
        position = (places.row_keys[..., :, None, :] + places.column_keys[..., None, :, :]).flatten(2, 3)
        position = position.expand(len(key), -1, -1, -1)
        terms = [position.to(key.dtype)]
        if key.dtype != position.dtype:
            terms.append((position - terms[0]).to(key.dtype))
        query = torch.cat([query, *[places.query.to(query.dtype)] * len(terms)], dim=-1)
        key = torch.cat([key, *terms], dim=-1)
    width = value.shape[-1]
    padded = F.pad(value, (0, key.shape[-1] - width))
    mask = None if key_is_padding is None else ~key_is_padding[:, None, None, :]
    return F.scaled_dot_product_attention(query, key, padded, attn_mask=mask, scale=math.log(2))[..., :width]


def _attend_in_blocks(
    query: Float[Tensor, "B M Q D_key"],
    key: Float[Tensor, "B M S D_key"],
    value: Float[Tensor, "B M S D_value"],
    key_is_padding: Bool[Tensor, "B S"] | None,
    places: Places | None,
) -> Float[Tensor, "B M Q D_value"]:
    """Compute the softmax for a block of queries at a time: in bf16 for all heads, in fp32 for one head.

    torch's kernel has fast bf16 products only for AMX, and uses MKL for fp32.
    """
    images, num_heads, queries, _ = query.shape
    spatial = (
        [] if places is None else [places.query.float() @ keys.mT for keys in (places.row_keys, places.column_keys)]
    )
    query, key, value = (part.flatten(0, 1).contiguous() for part in (query, key, value))
    heads = _Heads(
        query,
        key,
        value,
        spatial=[part.flatten(0, 1) for part in spatial],
        key_is_padding=None if key_is_padding is None else key_is_padding.repeat_interleave(num_heads, 0)[:, None],
        is_bounded=not spatial and _bound(query, key) < SAFE_EXPONENT,
    )
    if value.dtype == torch.bfloat16:
        attended = heads.attend()
    else:
        attended = torch.stack([heads.only(index).attend() for index in range(images * num_heads)])
    return attended.view(images, num_heads, queries, -1)


class _Heads(NamedTuple):
    """The operands of a stack of heads, or of one."""

    query: Float[Tensor, "*heads Q D_key"]
    key: Float[Tensor, "*heads S D_key"]
    value: Float[Tensor, "*heads S D_value"]
    spatial: list[Tensor]
    """The spatial logits by row ("*heads Q H") and by column ("*heads Q W"), or an empty tuple."""
    key_is_padding: Bool[Tensor, "*heads 1 S"] | None
    is_bounded: bool
    """True if no exponent can overflow."""

    def only(self, index: int) -> "_Heads":
        """Return the operands of one head."""
        return _Heads(
            self.query[index],
            self.key[index],
            self.value[index],
            spatial=[part[index] for part in self.spatial],
            key_is_padding=None if self.key_is_padding is None else self.key_is_padding[index],
            is_bounded=self.is_bounded,
        )

    def attend(self) -> Float[Tensor, "*heads Q D_value"]:
        """Weight the values with powers of 2, for as many queries at a time as the memory limit allows.

        A softmax subtracts the largest exponent of a query so that the powers do not overflow. Most exponents are too
        small for that. The powers are divided by their sum after the product, which is narrower.
        """
        bytes_per_query = self.key[..., 0].numel() * (torch.float32 if self.spatial else self.key.dtype).itemsize
        blocks = []
        rows = max(BLOCK_BYTES // bytes_per_query, 1)
        of_queries = (part.split(rows, dim=-2) for part in (self.query, *self.spatial))
        for query, *spatial in zip(*of_queries, strict=True):
            exponents = product(query, self.key)
            if spatial:
                by_row, by_column = spatial
                cells = exponents.float().unflatten(-1, (by_row.shape[-1], by_column.shape[-1]))
                exponents = cells.add_(by_row[..., :, None]).add_(by_column[..., None, :]).flatten(-2)
            if self.key_is_padding is not None:
                exponents.masked_fill_(self.key_is_padding, -torch.inf)
            if not self.is_bounded:
                largest = exponents.amax(-1, keepdim=True)
                if not (largest.abs() < SAFE_EXPONENT).all():
                    exponents.sub_(largest)
            weights = exponents.exp2_()
            values = product(weights.to(self.value.dtype), self.value.mT)
            blocks.append(values.div_(weights.sum(-1, keepdim=True)))
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=-2)


def _bound(query: Float[Tensor, "*heads Q D"], key: Float[Tensor, "*heads S D"]) -> float:
    """Return an upper bound of |q k| (Cauchy-Schwarz)."""
    return float(query.norm(dim=-1).amax() * key.norm(dim=-1).amax())
