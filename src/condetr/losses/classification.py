"""Classification losses in fp32: the focal loss and IoU-aware losses for sigmoid scores, cross-entropy for softmax."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from condetr.losses.matcher import Matches

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0


class Classification(ABC):
    """The classification part of matching and loss."""

    @abstractmethod
    def costs(self, logits: Float[Tensor, "R Q K"], labels: Int[Tensor, "R T"]) -> Float[Tensor, "R T Q"]:
        """Return the cost of matching each query with each target."""

    @abstractmethod
    def matched(
        self,
        logits: Float[Tensor, "L B Q K"],
        *,
        matches: Matches,
        labels: Int[Tensor, " P"],
        ious: Float[Tensor, " P"],
        num_boxes: float,
    ) -> Float[Tensor, " L"]:
        """Return the loss of each set of predictions; unmatched queries should predict no object.

        `ious` are those of the matched boxes, without a gradient.
        """

    @abstractmethod
    def known(self, logits: Float[Tensor, "P K"], *, labels: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Return the loss of queries whose class is known."""


class SigmoidClassification(Classification):
    """Sigmoids, with a loss of matched logits and one of all others.

    What is matched costs, and queries whose class is known learn, as with the focal loss.
    """

    def costs(self, logits: Float[Tensor, "R Q K"], labels: Int[Tensor, "R T"]) -> Float[Tensor, "R T Q"]:
        """Return the focal loss as a positive minus the focal loss as a negative."""
        p = logits.mT.gather(1, _for_each_query(labels, logits)).sigmoid()
        positive = FOCAL_ALPHA * (1 - p) ** FOCAL_GAMMA * -(p + 1e-8).log()
        negative = (1 - FOCAL_ALPHA) * p**FOCAL_GAMMA * -(1 - p + 1e-8).log()
        return positive - negative

    def matched(
        self,
        logits: Float[Tensor, "L B Q K"],
        *,
        matches: Matches,
        labels: Int[Tensor, " P"],
        ious: Float[Tensor, " P"],
        num_boxes: float,
    ) -> Float[Tensor, " L"]:
        """Return the loss of all logits, divided by the number of boxes.

        Few logits are positives: all are first computed as negatives, then the matched ones are corrected.
        """
        negatives = self.negative(logits).sum((1, 2, 3))
        matched = logits[matches.set, matches.image, matches.query, labels]
        corrections = self.positive(matched, ious=ious, matches=matches) - self.negative(matched)
        return negatives.index_add(0, matches.set, corrections) / num_boxes

    def known(self, logits: Float[Tensor, "P K"], *, labels: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Return the focal loss of each query's classes."""
        matched = logits.gather(1, labels[:, None])[:, 0]
        return _focal_negative(logits).sum(1) + (_focal_positive(matched) - _focal_negative(matched))

    @abstractmethod
    def positive(self, logits: Float[Tensor, " P"], *, ious: Float[Tensor, " P"], matches: Matches) -> Tensor:
        """Return the loss of each matched logit."""

    @abstractmethod
    def negative(self, logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the loss of each logit that is not matched."""


class FocalClassification(SigmoidClassification):
    """The focal loss (Conditional DETR, section 3.2), which learns 1 for every object, however well its box fits."""

    def positive(self, logits: Float[Tensor, " P"], *, ious: Float[Tensor, " P"], matches: Matches) -> Tensor:
        """Return the focal loss against 1."""
        return _focal_positive(logits)

    def negative(self, logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the focal loss against 0."""
        return _focal_negative(logits)


class MatchabilityAware(SigmoidClassification):
    """The matchability-aware loss (DEIM): a badly matched object teaches less than a well matched one.

    From scratch, overlaps and therefore targets are near 0 at first, and little is learned.
    """

    def __init__(self, *, exponent: float = 1.5) -> None:
        self.exponent = exponent

    def positive(self, logits: Float[Tensor, " P"], *, ious: Float[Tensor, " P"], matches: Matches) -> Tensor:
        """Return the cross-entropy against IoU^1.5."""
        return F.binary_cross_entropy_with_logits(logits, ious**self.exponent, reduction="none")

    def negative(self, logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the cross-entropy against 0, weighted by p^1.5."""
        return logits.detach().sigmoid() ** self.exponent * F.softplus(logits)


class PositionSupervised(SigmoidClassification):
    """The position-supervised loss (Stable-DINO): the best box of an image has the target 1."""

    def positive(self, logits: Float[Tensor, " P"], *, ious: Float[Tensor, " P"], matches: Matches) -> Tensor:
        """Return the weighted cross-entropy against IoU^2, rescaled in each image of each set."""
        squared = ious**2
        images = torch.stack([matches.set, matches.image], dim=1)
        _, image = torch.unique(images, dim=0, return_inverse=True)
        largest = torch.zeros_like(squared).scatter_reduce(0, image, squared, "amax")
        # Within the rescaling, an image in which nothing overlaps keeps the targets 0.
        targets = squared / largest.gather(0, image).clamp(min=torch.finfo(squared.dtype).tiny)
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return FOCAL_ALPHA * (targets - logits.sigmoid()) ** FOCAL_GAMMA * losses

    def negative(self, logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the focal loss."""
        return _focal_negative(logits)


class IouAwareCrossEntropy(SigmoidClassification):
    """The IoU-aware cross-entropy (Align-DETR): the target mixes score and overlap."""

    def positive(self, logits: Float[Tensor, " P"], *, ious: Float[Tensor, " P"], matches: Matches) -> Tensor:
        """Return the cross-entropy against p^0.25 IoU^0.75, which is at least 0.01."""
        targets = (logits.detach().sigmoid() ** 0.25 * ious**0.75).clamp(min=0.01)
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")

    def negative(self, logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return the cross-entropy against 0, weighted by p^2."""
        return logits.sigmoid() ** 2 * F.softplus(logits)


SigmoidLoss = Literal["focal", "mal", "psl", "ia_bce"]

SIGMOID_LOSSES: dict[SigmoidLoss, Callable[[], Classification]] = {
    "focal": FocalClassification,
    "mal": MatchabilityAware,
    "psl": PositionSupervised,
    "ia_bce": IouAwareCrossEntropy,
}
"""The losses of sigmoid scores by their names in settings."""


class CrossEntropyClassification(Classification):
    """Softmax over the classes and "no object", the last one (DETR, section 3.1)."""

    def __init__(self, *, no_object_weight: float) -> None:
        self.no_object_weight = no_object_weight

    def costs(self, logits: Float[Tensor, "R Q K"], labels: Int[Tensor, "R T"]) -> Float[Tensor, "R T Q"]:
        """Return the negative probability of the target's class."""
        return -logits.softmax(-1).mT.gather(1, _for_each_query(labels, logits))

    def matched(
        self,
        logits: Float[Tensor, "L B Q K"],
        *,
        matches: Matches,
        labels: Int[Tensor, " P"],
        ious: Float[Tensor, " P"],
        num_boxes: float,
    ) -> Float[Tensor, " L"]:
        """Return the weighted mean over all queries of each set, as in DETR; `num_boxes` is not used."""
        num_classes = logits.shape[-1]
        classes = torch.full(logits.shape[:-1], num_classes - 1, device=logits.device)
        classes[matches.set, matches.image, matches.query] = labels
        weights = torch.ones(num_classes, device=logits.device)
        weights[-1] = self.no_object_weight
        sets = zip(logits.flatten(1, 2), classes.flatten(1), strict=True)
        return torch.stack([F.cross_entropy(*each, weight=weights) for each in sets])

    def known(self, logits: Float[Tensor, "P K"], *, labels: Int[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Return the cross-entropy of each query."""
        return F.cross_entropy(logits, labels, reduction="none")


def _for_each_query(labels: Int[Tensor, "R T"], logits: Float[Tensor, "R Q K"]) -> Int[Tensor, "R T Q"]:
    return labels[:, :, None].expand(-1, -1, logits.shape[1])


def _focal_positive(logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return FOCAL_ALPHA * logits.neg().sigmoid() ** FOCAL_GAMMA * F.softplus(logits.neg())


def _focal_negative(logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return (1 - FOCAL_ALPHA) * logits.sigmoid() ** FOCAL_GAMMA * F.softplus(logits)
