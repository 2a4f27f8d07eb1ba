"""Reference points of queries (Conditional DETR, section 3.3)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condetr.layers.heads import xavier_init
from condetr.layers.mlp import MLP

Reference = Literal["query", "learned", "fixed"]
"""Predicted from the query embedding, a free parameter of each query, or the image centre for all."""


class ReferencePoints(nn.Module):
    """A point in [0, 1] for every query: the sigmoid of an unnormalised point s."""

    def __init__(self, dim: int, *, num_queries: int, source: Reference) -> None:
        super().__init__()
        self.head = MLP(dim, dim, 2) if source == "query" else None
        self.points = nn.Parameter(torch.randn(num_queries, 2)) if source == "learned" else None
        if self.head is not None:
            xavier_init(self.head)

    def forward(self, queries: Float[Tensor, "B Q D"]) -> Float[Tensor, "B Q 2"]:
        """Return (x, y), computed once for all decoder layers; gradient flows through it."""
        if self.head is not None:
            s = self.head(queries).float()
        elif self.points is not None:
            s = self.points[: queries.shape[1]].expand(queries.shape[0], -1, -1)
        else:
            s = queries.new_zeros(*queries.shape[:2], 2)
        return s.sigmoid()  # type: ignore[no-any-return]
