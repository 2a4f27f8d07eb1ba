"""Reference points of queries (Conditional DETR, section 3.3), and queries made from targets (DN-DETR, section 4)."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.layers.heads import xavier_init
from condetr.layers.mlp import MLP
from condetr.layers.positions import point_embedding
from condetr.shapes import Pairs, Targets

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


BOX_NOISE, LABEL_NOISE = 0.4, 0.2
"""The largest shift of a centre in half sides and the largest change of a side; the fraction of replaced labels
(section 4.3)."""


class NoisedTargets(NamedTuple):
    """Decoder inputs made from targets: a query for each target in each group, padded with empty boxes."""

    queries: Float[Tensor, "B Q D"]
    embedding: Float[Tensor, "B Q D"]
    """Content of the query, made from its label; the first decoder layer gets it instead of zeros."""
    reference_xy: Float[Tensor, "B Q 2"]
    known: Pairs
    """The target of each query."""


class DenoisingQueries(nn.Module):
    """Turns targets into noised queries, from which the decoder learns to restore them.

    A group holds each target of an image once. Groups attend neither to each other nor to the detection queries: they
    pass through the decoder separately.
    """

    def __init__(self, dim: int, *, num_classes: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.label_embedding = nn.Embedding(num_classes, dim)
        self.box_embedding = MLP(2 * dim, dim, dim)
        self.dim = dim

    def forward(self, targets: Targets) -> NoisedTargets:
        """Add noise to the targets and embed them; there is at least one query, even if no image has a target."""
        missing = int(targets.labels.shape[1] == 0)
        labels = F.pad(targets.labels, (0, missing)).repeat(1, self.groups)
        boxes_cxcywh = F.pad(targets.boxes_cxcywh, (0, 0, 0, missing)).repeat(1, self.groups, 1)
        noised_labels = _noised_labels(labels, self.label_embedding.num_embeddings)
        noised_cxcywh = _noised_boxes(boxes_cxcywh)
        halves = [point_embedding(half, dim=self.dim) for half in noised_cxcywh.split(2, dim=-1)]
        return NoisedTargets(
            queries=self.box_embedding(torch.cat(halves, dim=-1)),
            embedding=self.label_embedding(noised_labels),
            reference_xy=noised_cxcywh[..., :2],
            known=self._known(targets.counts, most=targets.labels.shape[1], device=labels.device),
        )

    def _known(self, counts: tuple[int, ...], *, most: int, device: torch.device) -> Pairs:
        # Computed without reading values from a GPU, which would have to synchronise.
        pairs = [
            (image, group * most + target, target)
            for group in range(self.groups)
            for image, count in enumerate(counts)
            for target in range(count)
        ]
        return Pairs(*torch.tensor(pairs, dtype=torch.int64).view(-1, 3).T.to(device, non_blocking=True))


def _noised_labels(labels: Int[Tensor, "B Q"], num_classes: int) -> Int[Tensor, "B Q"]:
    is_drawn = torch.rand(labels.shape, device=labels.device) < LABEL_NOISE
    return torch.where(is_drawn, torch.randint_like(labels, num_classes), labels)


def _noised_boxes(boxes_cxcywh: Float[Tensor, "B Q 4"]) -> Float[Tensor, "B Q 4"]:
    noise = BOX_NOISE * (2 * torch.rand_like(boxes_cxcywh) - 1)
    centres, sides = boxes_cxcywh.split(2, dim=-1)
    noised = torch.cat([centres + noise[..., :2] * sides / 2, sides * (1 + noise[..., 2:])], dim=-1)
    return noised.clamp(0, 1)
