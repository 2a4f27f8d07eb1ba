"""One-to-one matching of predictions to ground truth (DETR, section 3.1)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from condetr.boxes import cxcywh_to_xyxy, giou
from condetr.shapes import Prediction, Targets

ClassCosts = Callable[[Float[Tensor, "R Q K"], Int[Tensor, "R T"]], Float[Tensor, "R T Q"]]
"""Maps logits and the targets' labels to the cost of matching each query with each target."""

IMPOSSIBLE_COST = 1e6
"""Stands in for costs that are not finite, so that a diverging query is matched last instead of ending the run."""


class Matches(NamedTuple):
    """Pairs of a query and a target in several sets of predictions."""

    set: Int[Tensor, " P"]
    image: Int[Tensor, " P"]
    query: Int[Tensor, " P"]
    target: Int[Tensor, " P"]
    """Index among the targets of the image."""


class HungarianMatcher(nn.Module):
    """The cheapest one-to-one assignment."""

    def __init__(self, class_costs: ClassCosts, *, classification: float, l1: float, giou: float) -> None:
        super().__init__()
        self.class_costs = class_costs
        self.classification = classification
        self.l1 = l1
        self.giou = giou

    @torch.no_grad()
    def forward(self, stacked: Prediction, targets: Targets) -> Matches:
        """Match each of several sets, stacked along a first axis, to the targets."""
        num_sets, images = stacked.logits.shape[:2]
        rows = Prediction(*(values.flatten(0, 1) for values in stacked))
        costs = self.costs(rows, targets).cpu().numpy()
        counts = targets.counts * num_sets
        pairs = [linear_sum_assignment(cost[:, :count]) for cost, count in zip(costs, counts, strict=True)]
        row = np.repeat(np.arange(len(pairs)), [len(query) for query, _ in pairs])
        query, target = (np.concatenate(side) for side in zip(*pairs, strict=True))
        together = torch.from_numpy(np.stack([*np.divmod(row, images), query, target]).astype(np.int64))
        return Matches(*together.to(stacked.logits.device))

    def costs(self, prediction: Prediction, targets: Targets) -> Float[Tensor, "R Q T"]:
        """Return the cost of every pair in fp32, finite for any predictions.

        The rows of `prediction` are the images, once for each set.
        """
        repeats = len(prediction.logits) // len(targets.counts)
        labels, boxes_cxcywh = targets.labels.repeat(repeats, 1), targets.boxes_cxcywh.repeat(repeats, 1, 1)
        predicted_cxcywh = prediction.boxes_cxcywh.float()
        l1 = torch.cdist(boxes_cxcywh, predicted_cxcywh, p=1)
        overlap = giou(cxcywh_to_xyxy(boxes_cxcywh)[:, :, None], cxcywh_to_xyxy(predicted_cxcywh)[:, None])
        class_costs = self.class_costs(prediction.logits.float(), labels)
        # Computed as targets by queries: vectors of queries are longer, and the solver would transpose a matrix with
        # more rows than columns.
        costs = self.classification * class_costs + self.l1 * l1 - self.giou * overlap
        return costs.nan_to_num(nan=IMPOSSIBLE_COST, posinf=IMPOSSIBLE_COST, neginf=IMPOSSIBLE_COST).mT
