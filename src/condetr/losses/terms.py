"""The loss terms, each summed over one row of predictions (an image, or an image in one decoder layer).

All of them are computed in fp32. What they are divided by is the criterion's business.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from condetr.boxes import cxcywh_to_xyxy, giou
from condetr.losses.matcher import FOCAL_ALPHA, FOCAL_GAMMA, Matches


def focal_loss(logits: Float[Tensor, "R Q K"], *, matches: Matches, labels: Int[Tensor, " P"]) -> Float[Tensor, " R"]:
    """Return the focal loss with matched queries as positives (Conditional DETR, section 3.2).

    Few of the logits are positives: all of them count as negatives first, then the matched ones are put right.
    """
    matched = logits[matches.row, matches.query, labels]
    corrections = _focal_positive(matched) - _focal_negative(matched)
    return _focal_negative(logits).sum((1, 2)).index_add(0, matches.row, corrections)


def _focal_positive(logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return FOCAL_ALPHA * logits.neg().sigmoid() ** FOCAL_GAMMA * F.softplus(logits.neg())


def _focal_negative(logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return (1 - FOCAL_ALPHA) * logits.sigmoid() ** FOCAL_GAMMA * F.softplus(logits)


def cross_entropy(
    logits: Float[Tensor, "L B Q K"], *, matches: Matches, labels: Int[Tensor, " P"], no_object_weight: float
) -> Float[Tensor, " L"]:
    """Return DETR's cross-entropy: a weighted mean over the batch, the last class being "no object"."""
    num_classes = logits.shape[-1]
    classes = torch.full(logits.shape[:-1], num_classes - 1, device=logits.device).flatten(0, 1)
    classes[matches.row, matches.query] = labels
    weights = torch.ones(num_classes, device=logits.device)
    weights[-1] = no_object_weight
    layers = zip(logits.flatten(1, 2), classes.view(len(logits), -1), strict=True)
    return torch.stack([F.cross_entropy(*layer, weight=weights) for layer in layers])


def l1_loss(predicted_cxcywh: Float[Tensor, "P 4"], target_cxcywh: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
    """Return the L1 distance of matched boxes."""
    return (predicted_cxcywh - target_cxcywh).abs().sum(-1)


def giou_loss(predicted_cxcywh: Float[Tensor, "P 4"], target_cxcywh: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
    """Return 1 - GIoU of matched boxes."""
    return 1 - giou(cxcywh_to_xyxy(predicted_cxcywh), cxcywh_to_xyxy(target_cxcywh))
