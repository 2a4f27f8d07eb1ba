"""The IoU-aware losses against worked examples and slow versions."""

import pytest
import torch

from condetr.detectors.scores import build_set_criterion
from condetr.errors import InputError
from condetr.losses.classification import (
    SIGMOID_LOSSES,
    IouAwareCrossEntropy,
    MatchabilityAware,
    PositionSupervised,
    SigmoidClassification,
    SigmoidLoss,
)
from condetr.losses.criterion import CriterionConfig
from condetr.losses.matcher import Matches
from condetr.shapes import DetectorOutput, Prediction, PredictionSet, Targets

IOU_AWARE: list[SigmoidLoss] = ["mal", "psl", "ia_bce"]


def matches_of(*places: tuple[int, int, int]) -> Matches:
    """Return matches of (set, image, query); targets do not matter here."""
    sets, images, queries = (torch.tensor(column) for column in zip(*places, strict=True))
    return Matches(sets, images, queries, torch.zeros_like(sets))


def positive_of(loss: SigmoidClassification, *, p: float, iou: float) -> float:
    logits = torch.tensor([p]).logit()
    return loss.positive(logits, ious=torch.tensor([iou]), matches=matches_of((0, 0, 0))).item()


def test_the_worked_example_of_mal() -> None:
    assert positive_of(MatchabilityAware(), p=0.3, iou=0.6) == pytest.approx(0.7505, abs=1e-4)
    assert MatchabilityAware().negative(torch.tensor(0.3).logit()).item() == pytest.approx(0.0586, abs=1e-4)


def test_mal_with_exponent_0_learns_1_as_plain_cross_entropy_does() -> None:
    assert positive_of(MatchabilityAware(exponent=0.0), p=0.3, iou=0.1) == pytest.approx(
        -torch.tensor(0.3).log().item()
    )


def test_the_target_of_ia_bce_mixes_score_and_overlap() -> None:
    p, iou = 0.3, 0.6
    target = p**0.25 * iou**0.75
    expected = -target * torch.tensor(p).log() - (1 - target) * torch.tensor(1 - p).log()
    assert positive_of(IouAwareCrossEntropy(), p=p, iou=iou) == pytest.approx(expected.item(), rel=1e-5)
    least = -0.01 * torch.tensor(p).log() - 0.99 * torch.tensor(1 - p).log()
    assert positive_of(IouAwareCrossEntropy(), p=p, iou=0.0) == pytest.approx(least.item(), rel=1e-5)


def test_psl_gives_the_best_box_of_each_image_of_each_set_the_target_1() -> None:
    places = matches_of((0, 0, 1), (0, 0, 2), (0, 1, 0), (1, 0, 0))
    ious, p = torch.tensor([0.5, 0.25, 0.1, 0.9]), torch.tensor([0.3, 0.4, 0.5, 0.6])
    losses = PositionSupervised().positive(p.logit(), ious=ious, matches=places)
    targets = torch.tensor([1.0, 0.25, 1.0, 1.0])
    entropy = -targets * p.log() - (1 - targets) * (1 - p).log()
    torch.testing.assert_close(losses, 0.25 * (targets - p) ** 2 * entropy)


@pytest.mark.parametrize("name", IOU_AWARE)
def test_every_logit_that_is_not_matched_is_negative(name: SigmoidLoss) -> None:
    loss = SIGMOID_LOSSES[name]()
    assert isinstance(loss, SigmoidClassification)
    logits, places = torch.randn(2, 3, 4, 5), matches_of((0, 0, 1), (0, 2, 3), (1, 1, 0))
    labels, ious = torch.tensor([4, 0, 2]), torch.tensor([0.9, 0.2, 0.6])
    positives = loss.positive(logits[places.set, places.image, places.query, labels], ious=ious, matches=places)
    is_negative = torch.ones_like(logits, dtype=torch.bool)
    is_negative[places.set, places.image, places.query, labels] = False
    expected = torch.stack([loss.negative(logits[each])[is_negative[each]].sum() for each in (0, 1)])
    expected = (expected + torch.stack([positives[:2].sum(), positives[2]])) / 3
    found = loss.matched(logits, matches=places, labels=labels, ious=ious, num_boxes=3.0)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", IOU_AWARE)
def test_no_gradient_of_the_class_loss_reaches_the_boxes(name: SigmoidLoss) -> None:
    boxes = (torch.rand(2, 6, 4) * 0.5 + 0.2).requires_grad_()
    prediction = Prediction(torch.randn(2, 6, 4, requires_grad=True), boxes)
    config = CriterionConfig(classification_loss=name, l1=0.0, giou=0.0)
    targets = Targets.of((torch.randint(0, 3, (count,)), torch.rand(count, 4) * 0.5 + 0.2) for count in (3, 1))
    criterion = build_set_criterion(config, scores="sigmoid")
    criterion(DetectorOutput((PredictionSet("last", prediction),)), targets, num_boxes=4.0)["loss"].backward()
    assert boxes.grad is not None
    assert boxes.grad.abs().max() == 0
    assert prediction.logits.grad is not None
    assert prediction.logits.grad.abs().max() > 0


@pytest.mark.parametrize("name", IOU_AWARE)
@pytest.mark.parametrize("logit", [-50.0, 50.0])
def test_extreme_logits_and_images_without_objects_give_finite_losses(name: SigmoidLoss, logit: float) -> None:
    boxes = torch.tensor([[[0.2, 0.2, 0.1, 0.1], [0.7, 0.7, 0.0, 0.0]]]).expand(2, -1, -1)
    prediction = Prediction(torch.full((2, 2, 3), logit, requires_grad=True), boxes)
    criterion = build_set_criterion(CriterionConfig(classification_loss=name), scores="sigmoid")
    nothing = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)
    far_off = torch.tensor([0]), torch.tensor([[0.9, 0.1, 0.1, 0.1]])
    for targets in (Targets.of([nothing, far_off]), Targets.none(2)):
        loss = criterion(DetectorOutput((PredictionSet("last", prediction),)), targets, num_boxes=1.0)["loss"]
        (gradient,) = torch.autograd.grad(loss, prediction.logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_softmax_scores_have_no_other_loss() -> None:
    with pytest.raises(InputError, match="classification_loss=mal needs sigmoid scores"):
        build_set_criterion(CriterionConfig(classification_loss="mal"), scores="softmax")
