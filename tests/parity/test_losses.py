"""Matching, every loss term and the gradient of every parameter are those of transformers' criterion."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher, DeformableDetrImageLoss
from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.losses.criterion import SetCriterion
from condetr.shapes import DetectorOutput, Prediction, PredictionSet, Targets
from tests.parity.peers import (
    Kind,
    Peers,
    detector_config,
    inputs,
    make_peers,
    random_model,
    small_config,
    targets,
    their_gradients,
    their_output,
    their_targets,
)

KINDS: tuple[Kind, ...] = ("conditional_detr", "detr")
TERMS = {"classification": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}
WEIGHTS = {
    "conditional_detr": {"loss_ce": 2, "loss_bbox": 5, "loss_giou": 2},
    "detr": {"loss_ce": 1, "loss_bbox": 5, "loss_giou": 2},
}
"""The papers' loss weights; transformers' own sum weighs loss_ce by 1 in either model."""

SMALLEST_PART = 1e-5
"""A gradient below this part of the whole gradient's norm is rounding: softmax ignores key biases, say."""


def our_criterion(kind: Kind) -> SetCriterion:
    return (DetrConfig() if kind == "detr" else ConditionalDetrConfig()).build_criterion()


def their_criterion(kind: Kind, *, num_classes: int) -> ImageLoss:
    losses = ["labels", "boxes"]
    if kind == "detr":
        matcher = HungarianMatcher(class_cost=1, bbox_cost=5, giou_cost=2)
        return ImageLoss(matcher, num_classes=num_classes, eos_coef=0.1, losses=losses)  # type: ignore[no-untyped-call]
    matcher = DeformableDetrHungarianMatcher(class_cost=2, bbox_cost=5, giou_cost=2)
    return DeformableDetrImageLoss(matcher, num_classes=num_classes, focal_alpha=0.25, losses=losses)  # type: ignore[no-untyped-call]


def as_dict(output: DetectorOutput) -> dict[str, Any]:
    def pair(prediction: Prediction) -> dict[str, Tensor]:
        return {"logits": prediction.logits, "pred_boxes": prediction.boxes_cxcywh}

    return {**pair(output.final), "auxiliary_outputs": [pair(layer.prediction) for layer in output.sets[:-1]]}


def weighted_sum(terms: Mapping[str, Tensor], *, kind: Kind) -> Tensor:
    """Return the papers' loss of a plain training loop: all layers' terms, weighted."""
    weights = WEIGHTS[kind]
    return torch.stack([weights[name.rstrip("0123456789").rstrip("_")] * term for name, term in terms.items()]).sum()


def random_output(*, num_classes: int, layers: int = 3, queries: int = 20, images: int = 3) -> DetectorOutput:
    generator = torch.Generator().manual_seed(5)
    predictions = [
        Prediction(
            2 * torch.randn(images, queries, num_classes, generator=generator),
            0.05 + 0.4 * torch.rand(images, queries, 4, generator=generator),
        )
        for _ in range(layers)
    ]
    return DetectorOutput(tuple(PredictionSet(f"layer{index}", each) for index, each in enumerate(predictions)))


def gradient_deviations(ours: nn.Module, theirs: Mapping[str, Tensor]) -> dict[str, float]:
    """Return |g - g'| / |g'| of every parameter, norms over its elements; see SMALLEST_PART for tiny |g'|."""
    whole = torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    own = {name: parameter.grad for name, parameter in ours.named_parameters() if parameter.grad is not None}
    assert own.keys() == theirs.keys()
    return {
        name: float((own[name] - gradient).norm() / max(gradient.norm(), SMALLEST_PART * whole))
        for name, gradient in theirs.items()
    }


def backward_both(peers: Peers, kind: Kind, wanted: Targets, *, num_classes: int) -> tuple[Tensor, Tensor]:
    batch = inputs(sizes_hw=((96, 128), (112, 90)))
    batch = batch._replace(images=batch.images.to(torch.get_default_dtype()))
    wanted = wanted._replace(boxes_cxcywh=wanted.boxes_cxcywh.to(torch.get_default_dtype()))
    num_boxes = float(sum(wanted.counts))
    ours: Tensor = our_criterion(kind)(peers.ours(*batch), wanted, num_boxes=num_boxes)["loss"]
    terms = their_criterion(kind, num_classes=num_classes)(
        as_dict(their_output(peers.theirs, batch)), their_targets(wanted)
    )
    theirs = weighted_sum(terms, kind=kind)
    ours.backward()
    theirs.backward()
    return ours, theirs


@contextmanager
def in_double_precision(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let both sides compute in float64, also where ours asks for fp32."""
    for model in (peers.ours, peers.theirs):
        model.double()
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [(4, 7, 1), (0, 5, 2), (20, 0, 0)])
def test_every_layer_is_matched_alike(kind: Kind, counts: tuple[int, ...]) -> None:
    output, wanted = random_output(num_classes=10), targets(counts, num_classes=9)
    matcher, theirs = our_criterion(kind).matcher, their_criterion(kind, num_classes=9).matcher

    for _, layer, *_ in output.sets:
        matches = matcher(Prediction(*(values[None] for values in layer)), wanted)
        expected = theirs({"logits": layer.logits, "pred_boxes": layer.boxes_cxcywh}, their_targets(wanted))

        for image, (query, target) in enumerate(expected):
            assert matches.query[matches.image == image].tolist() == query.tolist()
            assert matches.target[matches.image == image].tolist() == target.tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [(4, 7, 1), (0, 5, 2), (0, 0, 0)])
def test_every_loss_term_is_the_same(kind: Kind, counts: tuple[int, ...]) -> None:
    num_columns = 9 if kind == "conditional_detr" else 10  # DETR has a column for "no object"
    output, wanted = random_output(num_classes=num_columns), targets(counts, num_classes=9)

    ours = our_criterion(kind)(output, wanted, num_boxes=max(float(sum(counts)), 1.0))
    theirs = their_criterion(kind, num_classes=9)(as_dict(output), their_targets(wanted))

    for name, their_name in TERMS.items():
        torch.testing.assert_close(ours[f"loss_{name}"], theirs[their_name], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours["loss"], weighted_sum(theirs, kind=kind), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_a_small_detector_gets_the_same_gradient(kind: Kind, tmp_path: Path) -> None:
    peers = make_peers(tmp_path, random_model(small_config(kind), num_class_rows=9))

    ours, theirs = backward_both(peers, kind, targets((3, 5), num_classes=9), num_classes=9)

    deviations = gradient_deviations(peers.ours, their_gradients(peers))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert max(deviations.values()) < 1e-4, max(deviations, key=lambda name: deviations[name])


def test_every_parameter_of_conditional_detr_r50_gets_the_same_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = make_peers(tmp_path, random_model(detector_config("conditional_detr")))

    # In float64: rounding in float32 turns a ReLU of such weights on or off here and there, which moves the gradients
    # behind it by up to 6e-3, and depends on the number of threads.
    with in_double_precision(peers, monkeypatch):
        ours, theirs = backward_both(peers, "conditional_detr", targets((3, 5), num_classes=91), num_classes=91)

    deviations = gradient_deviations(peers.ours, their_gradients(peers))
    assert len(deviations) == 341
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert max(deviations.values()) < 1e-5, max(deviations, key=lambda name: deviations[name])
