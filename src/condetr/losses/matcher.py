"""Matching predictions to ground truth one to one (DETR, section 3.1)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from condetr.boxes import cxcywh_to_xyxy, giou
from condetr.layers.heads import Scores
from condetr.shapes import Prediction, Target

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0

IMPOSSIBLE_COST = 1e6
"""Stands in for costs that are not finite, so that a diverging query is matched last instead of ending the run."""


class PaddedTargets(NamedTuple):
    """The targets of a batch in one tensor, padded to the largest count."""

    labels: Int[Tensor, "B T"]
    boxes_cxcywh: Float[Tensor, "B T 4"]
    counts: tuple[int, ...]


class Matches(NamedTuple):
    """Pairs of a query and a target, over all rows (images, or images times layers) of the predictions."""

    row: Int[Tensor, " P"]
    query: Int[Tensor, " P"]
    target: Int[Tensor, " P"]
    """Position among the targets of the row's image."""


class HungarianMatcher(nn.Module):
    """The cheapest one-to-one assignment; costs as in Conditional DETR (focal) or DETR (softmax)."""

    def __init__(self, *, scores: Scores, classification: float, l1: float, giou: float) -> None:
        super().__init__()
        self.scores = scores
        self.classification = classification
        self.l1 = l1
        self.giou = giou

    @torch.no_grad()
    def forward(self, prediction: Prediction, targets: PaddedTargets) -> Matches:
        """Match every row of `prediction`; its rows are the images of `targets`, repeated for each decoder layer."""
        costs = self.costs(prediction, targets).cpu().numpy()
        images = len(targets.counts)
        pairs = [linear_sum_assignment(cost[:, : targets.counts[row % images]]) for row, cost in enumerate(costs)]
        rows = np.repeat(np.arange(len(pairs)), [len(query) for query, _ in pairs])
        query, target = (np.concatenate(side) for side in zip(*pairs, strict=True))
        together = torch.from_numpy(np.stack([rows, query, target]).astype(np.int64))
        return Matches(*together.to(prediction.logits.device))

    def costs(self, prediction: Prediction, targets: PaddedTargets) -> Float[Tensor, "R Q T"]:
        """Return the cost of every pair in fp32, finite whatever the predictions are."""
        repeats = len(prediction.logits) // len(targets.counts)
        labels, boxes_cxcywh = targets.labels.repeat(repeats, 1), targets.boxes_cxcywh.repeat(repeats, 1, 1)
        predicted_cxcywh = prediction.boxes_cxcywh.float()
        l1 = torch.cdist(boxes_cxcywh, predicted_cxcywh, p=1)
        overlap = giou(cxcywh_to_xyxy(boxes_cxcywh)[:, :, None], cxcywh_to_xyxy(predicted_cxcywh)[:, None])
        class_costs = _class_costs(prediction.logits.float(), labels, scores=self.scores)
        # Computed as targets by queries: vectors of queries are the longer ones, and the solver turns a matrix with
        # more rows than columns around.
        costs = self.classification * class_costs + self.l1 * l1 - self.giou * overlap
        return costs.nan_to_num(nan=IMPOSSIBLE_COST, posinf=IMPOSSIBLE_COST, neginf=IMPOSSIBLE_COST).mT


def pad_targets(targets: Sequence[Target]) -> PaddedTargets:
    """Bring the targets of a batch into one tensor."""
    return PaddedTargets(
        labels=nn.utils.rnn.pad_sequence([target.labels for target in targets], batch_first=True),
        boxes_cxcywh=nn.utils.rnn.pad_sequence([target.boxes_cxcywh for target in targets], batch_first=True),
        counts=tuple(len(target.labels) for target in targets),
    )


def _class_costs(
    logits: Float[Tensor, "R Q K"], labels: Int[Tensor, "R T"], *, scores: Scores
) -> Float[Tensor, "R T Q"]:
    index = labels[:, :, None].expand(-1, -1, logits.shape[1])
    if scores == "softmax":
        return -logits.softmax(-1).mT.gather(1, index)
    p = logits.mT.gather(1, index).sigmoid()
    positive = FOCAL_ALPHA * (1 - p) ** FOCAL_GAMMA * -(p + 1e-8).log()
    negative = (1 - FOCAL_ALPHA) * p**FOCAL_GAMMA * -(1 - p + 1e-8).log()
    return positive - negative
