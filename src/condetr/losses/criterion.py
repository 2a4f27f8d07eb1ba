"""The criterion: match every set of predictions to the targets, and sum the weighted loss terms."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from condetr.boxes import cxcywh_to_xyxy, giou, iou
from condetr.config import settings
from condetr.losses.classification import Classification, SigmoidLoss
from condetr.losses.matcher import HungarianMatcher, Matches
from condetr.shapes import DetectorOutput, Pairs, Prediction, PredictionSet, Targets

LossReport = dict[str, Tensor]
"""`loss`, the weighted sum over all sets that is minimised, and the unweighted terms of the last set."""

Criterion = Callable[..., LossReport]
"""Called with a detector's output, the targets, and `num_boxes`: targets per process, averaged over the processes."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@settings
class MatcherConfig:
    """Weights of the costs of matching a query with a target."""

    classification: Weight = 2.0
    l1: Weight = 5.0
    giou: Weight = 2.0


@settings
class CriterionConfig:
    """Weights of the loss terms, the same for every set."""

    matcher: MatcherConfig = MatcherConfig()
    classification: Weight = 2.0
    l1: Weight = 5.0
    giou: Weight = 2.0
    no_object_weight: Weight = 0.1
    """Weight of "no object" in the cross-entropy; the focal loss has no such class."""
    classification_loss: SigmoidLoss = "focal"
    """Of sigmoid scores. All but `focal` learn the overlap of a box as its score: MAL of DEIM, PSL of Stable-DINO,
    IA-BCE of Align-DETR. Their sizes differ, so search the weight `classification` again: 6 was published with PSL."""

    def build(self, classification: Classification) -> "SetCriterion":
        """Build the criterion with the given classification loss."""
        costs = self.matcher
        return SetCriterion(
            HungarianMatcher(classification.costs, classification=costs.classification, l1=costs.l1, giou=costs.giou),
            classification,
            weights={"classification": self.classification, "l1": self.l1, "giou": self.giou},
        )


class SetCriterion(nn.Module):
    """Hungarian matching and the weighted losses of all sets (DETR, section 3.1)."""

    def __init__(self, matcher: HungarianMatcher, classification: Classification, *, weights: dict[str, float]) -> None:
        super().__init__()
        self.matcher = matcher
        self.classification = classification
        self.weights = weights

    def forward(self, output: DetectorOutput, targets: Targets, *, num_boxes: float) -> LossReport:
        """Return the losses, summed over the sets; box terms and the focal loss are divided by `num_boxes`.

        `num_boxes` is the number of targets per process, averaged over the processes, and at least 1.
        """
        weighted: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        for _, alike in groupby(output.sets, key=_form):
            sets = list(alike)
            terms = self._terms(sets, targets, num_boxes=num_boxes)
            losses = torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum(0)
            weighted += [each.weight * loss for each, loss in zip(sets, losses, strict=True)]
        return {
            "loss": torch.stack(weighted).sum(),
            **{f"loss_{name}": losses[-1].detach() for name, losses in terms.items()},
        }

    def _terms(
        self, sets: Sequence[PredictionSet], targets: Targets, *, num_boxes: float
    ) -> dict[str, Float[Tensor, " L"]]:
        """Return the loss terms of sets of equal shape, computed together: the last entries are the last set's."""
        stacked = Prediction(
            *(torch.stack(each).float() for each in zip(*(each.prediction for each in sets), strict=True))
        )
        known = sets[0].known
        if sets[0].class_agnostic:
            targets = targets._replace(labels=torch.zeros_like(targets.labels))
        matches = self.matcher(stacked, targets) if known is None else _in_every_set(known, num_sets=len(sets))
        labels = targets.labels[matches.image, matches.target]
        matched_cxcywh = targets.boxes_cxcywh[matches.image, matches.target]
        predicted_cxcywh = stacked.boxes_cxcywh[matches.set, matches.image, matches.query]
        sums = predicted_cxcywh.new_zeros(3, len(sets))
        if known is None:
            overlaps = iou(cxcywh_to_xyxy(predicted_cxcywh.detach()), cxcywh_to_xyxy(matched_cxcywh))
            classes = self.classification.matched(
                stacked.logits, matches=matches, labels=labels, ious=overlaps, num_boxes=num_boxes
            )
        else:
            losses = self.classification.known(stacked.logits[matches.set, matches.image, matches.query], labels=labels)
            classes = sums[0].index_add(0, matches.set, losses) / num_boxes
        return {
            "classification": classes,
            "l1": sums[1].index_add(0, matches.set, l1_loss(predicted_cxcywh, matched_cxcywh)) / num_boxes,
            "giou": sums[2].index_add(0, matches.set, giou_loss(predicted_cxcywh, matched_cxcywh)) / num_boxes,
        }


def l1_loss(predicted_cxcywh: Float[Tensor, "P 4"], target_cxcywh: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
    """Return the L1 distance of matched boxes."""
    return (predicted_cxcywh - target_cxcywh).abs().sum(-1)


def giou_loss(predicted_cxcywh: Float[Tensor, "P 4"], target_cxcywh: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
    """Return 1 - GIoU of matched boxes."""
    return 1 - giou(cxcywh_to_xyxy(predicted_cxcywh), cxcywh_to_xyxy(target_cxcywh))


def _form(each: PredictionSet) -> tuple[torch.Size, bool, bool]:
    """Return what sets must have in common to be stacked."""
    return each.prediction.logits.shape, each.known is None, each.class_agnostic


def _in_every_set(known: Pairs, *, num_sets: int) -> Matches:
    index = torch.arange(num_sets, device=known.image.device).repeat_interleave(len(known.image))
    return Matches(index, *(each.repeat(num_sets) for each in known))
