"""The criterion: match every decoder layer's predictions, weigh and add up the loss terms."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.config import settings
from condetr.layers.heads import Scores
from condetr.losses.matcher import HungarianMatcher, Matches, pad_targets
from condetr.losses.terms import cross_entropy, focal_loss, giou_loss, l1_loss
from condetr.shapes import DetectorOutput, Prediction, Reconstruction, Target

LossReport = dict[str, Tensor]
"""`loss`, the weighted sum over all layers that is minimised, and the last layer's unweighted terms."""


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@settings
class MatcherConfig:
    """Costs of pairing a query with a target."""

    classification: Weight = 2.0
    l1: Weight = 5.0
    giou: Weight = 2.0

    def build(self, *, scores: Scores) -> HungarianMatcher:
        """Build the matcher for detectors with these scores."""
        return HungarianMatcher(scores=scores, classification=self.classification, l1=self.l1, giou=self.giou)


@settings
class CriterionConfig:
    """Weights of the loss terms, the same for every decoder layer."""

    matcher: MatcherConfig = MatcherConfig()
    classification: Weight = 2.0
    l1: Weight = 5.0
    giou: Weight = 2.0
    no_object_weight: Weight = 0.1
    """Weight of "no object" in the cross-entropy; the focal loss has no such class."""

    def build(self, *, scores: Scores) -> "SetCriterion":
        """Build the criterion: focal loss for sigmoid scores, cross-entropy for softmax scores."""
        return SetCriterion(
            self.matcher.build(scores=scores),
            scores=scores,
            classification=self.classification,
            l1=self.l1,
            giou=self.giou,
            no_object_weight=self.no_object_weight,
        )


class SetCriterion(nn.Module):
    """Hungarian matching and the weighted losses of all layers (DETR, section 3.1)."""

    def __init__(
        self,
        matcher: HungarianMatcher,
        *,
        scores: Scores,
        classification: float,
        l1: float,
        giou: float,
        no_object_weight: float,
    ) -> None:
        super().__init__()
        self.matcher = matcher
        self.scores = scores
        self.weights = {"classification": classification, "l1": l1, "giou": giou}
        self.no_object_weight = no_object_weight

    def forward(self, output: DetectorOutput, targets: Sequence[Target], *, num_boxes: float) -> LossReport:
        """Return the losses, summed over layers; box terms and the focal loss are divided by `num_boxes`.

        `num_boxes` is the number of targets per process, averaged over the processes, and at least 1.
        """
        layers = [*output.auxiliary, output.final]
        logits = torch.stack([layer.logits for layer in layers]).float()
        boxes_cxcywh = torch.stack([layer.boxes_cxcywh for layer in layers]).float()
        padded = pad_targets(targets)
        rows = Prediction(logits.flatten(0, 1), boxes_cxcywh.flatten(0, 1))
        matches = self.matcher(rows, padded)
        image = matches.row % len(targets)
        labels, matched_cxcywh = padded.labels[image, matches.target], padded.boxes_cxcywh[image, matches.target]
        predicted_cxcywh = rows.boxes_cxcywh[matches.row, matches.query]
        layer = torch.div(matches.row, len(targets), rounding_mode="floor")
        sums = predicted_cxcywh.new_zeros(2, len(layers))
        terms = {
            "classification": self._classification(logits, matches=matches, labels=labels, num_boxes=num_boxes),
            "l1": sums[0].index_add(0, layer, l1_loss(predicted_cxcywh, matched_cxcywh)) / num_boxes,
            "giou": sums[1].index_add(0, layer, giou_loss(predicted_cxcywh, matched_cxcywh)) / num_boxes,
        }
        total = self._weighted(terms) / output.groups
        if output.reconstruction is not None:
            total = total + self._reconstruction(output.reconstruction) / num_boxes
        return {"loss": total, **{f"loss_{name}": losses[-1].detach() for name, losses in terms.items()}}

    def _weighted(self, terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        return torch.stack([weight * terms[name].sum() for name, weight in self.weights.items()]).sum()

    def _classification(
        self, logits: Float[Tensor, "L B Q K"], *, matches: Matches, labels: Tensor, num_boxes: float
    ) -> Float[Tensor, " L"]:
        if self.scores == "softmax":
            return cross_entropy(logits, matches=matches, labels=labels, no_object_weight=self.no_object_weight)
        losses = focal_loss(logits.flatten(0, 1), matches=matches, labels=labels)
        return losses.view(len(logits), -1).sum(1) / num_boxes

    def _reconstruction(self, found: Reconstruction) -> Float[Tensor, ""]:
        """Return the weighted loss of restoring noised targets, summed over layers; nothing has to be matched."""
        terms = {
            "classification": self._known_classes(found.logits.float(), labels=found.labels),
            "l1": l1_loss(found.boxes_cxcywh, found.targets_cxcywh),
            "giou": giou_loss(found.boxes_cxcywh, found.targets_cxcywh),
        }
        return self._weighted(terms) / found.groups

    def _known_classes(self, logits: Float[Tensor, "N K"], *, labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        if self.scores == "softmax":
            return F.cross_entropy(logits, labels, reduction="none")
        row = torch.arange(len(labels), device=labels.device)
        return focal_loss(logits[:, None], matches=Matches(row, torch.zeros_like(row), row), labels=labels)
