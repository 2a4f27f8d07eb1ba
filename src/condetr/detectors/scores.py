"""Classification losses, and how class logits become scores."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from condetr.errors import InputError
from condetr.losses.classification import SIGMOID_LOSSES, Classification, CrossEntropyClassification
from condetr.losses.criterion import CriterionConfig, SetCriterion
from condetr.shapes import Found, Prediction

Scores = Literal["sigmoid", "softmax"]
"""Each class separately (focal loss), or all classes together with "no object" (cross-entropy)."""

Ranking = Callable[[Prediction, int], list[Found]]
"""Returns the detections of each image from a prediction, up to a limit."""


def build_set_criterion(config: CriterionConfig, *, scores: Scores) -> SetCriterion:
    """Build the criterion: one of the losses of sigmoid scores, or cross-entropy for softmax scores."""
    classification: Classification
    if scores == "sigmoid":
        classification = SIGMOID_LOSSES[config.classification_loss]()
    elif config.classification_loss != "focal":
        raise InputError(
            f"detector.criterion.classification_loss={config.classification_loss} needs sigmoid scores, and this "
            "detector learns softmax scores: set detector.scores=sigmoid, or leave the loss at its default"
        )
    else:
        classification = CrossEntropyClassification(no_object_weight=config.no_object_weight)
    return config.build(classification)


def rank_sigmoid(prediction: Prediction, limit: int) -> list[Found]:
    """Let every class of every query compete, so that a query may yield several labels (Conditional DETR)."""
    logits = prediction.logits.float()
    num_classes = logits.shape[-1]
    scores, places = logits.sigmoid().flatten(1).topk(min(limit, logits[0].numel()))
    return _found(prediction, scores=scores, labels=places % num_classes, queries=places // num_classes)


def rank_softmax(prediction: Prediction, limit: int) -> list[Found]:
    """Let every query yield its best class; the last column is "no object" (DETR)."""
    best, labels = prediction.logits.float().softmax(dim=-1)[..., :-1].max(dim=-1)
    scores, queries = best.topk(min(limit, best.shape[1]))
    return _found(prediction, scores=scores, labels=labels.gather(1, queries), queries=queries)


RANKINGS: dict[Scores, Ranking] = {"sigmoid": rank_sigmoid, "softmax": rank_softmax}


def _found(prediction: Prediction, *, scores: Tensor, labels: Tensor, queries: Tensor) -> list[Found]:
    boxes_cxcywh = prediction.boxes_cxcywh.float().gather(1, queries[..., None].expand(-1, -1, 4))
    return [Found(*each) for each in zip(boxes_cxcywh, scores, labels, queries, strict=True)]
