"""Matching and losses of all decoder layers, with their gradient: predictions in, gradients out."""

import importlib
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.report import Cell, Table
from benchmarks.speed.timing import alternate
from condetr.detectors.scores import build_set_criterion
from condetr.layers.heads import layer_sets
from condetr.losses.criterion import CriterionConfig
from condetr.shapes import DetectorOutput, Prediction
from tests.parity.peers import hf, targets, their_targets

NUM_LAYERS, NUM_QUERIES, NUM_CLASSES = 6, 300, 91


def measure(*, quick: bool) -> Table:
    """Time both libraries' focal criteria on the same predictions and boxes."""
    rows: list[tuple[Cell, ...]] = []
    ratios: dict[str, float] = {}
    for images, boxes in [(2, 5)] if quick else [(2, 7), (16, 7), (16, 20), (16, 60)]:
        seconds = _measure(images=images, boxes=boxes, rounds=2 if quick else 7)
        ratio = seconds["transformers"] / seconds["ours"]
        rows.append((f"{images} x {boxes}", 1e3 * seconds["transformers"], 1e3 * seconds["ours"], ratio))
        ratios[f"batch {images}, {boxes} boxes an image"] = ratio
    return Table(
        name="losses",
        title=f"Matching, losses and gradient: {NUM_LAYERS} layers, {NUM_QUERIES} queries, {NUM_CLASSES} classes",
        columns=("images x boxes", "transformers ms", "ours ms", "ratio"),
        rows=rows,
        headline=ratios,
        notes=["no cardinality error is computed by ours; transformers logs it"],
    )


def _measure(*, images: int, boxes: int, rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    logits = torch.randn(NUM_LAYERS, images, NUM_QUERIES, NUM_CLASSES, requires_grad=True)
    boxes_cxcywh = (0.2 + 0.5 * torch.rand(NUM_LAYERS, images, NUM_QUERIES, 4)).requires_grad_()
    truth = targets([boxes] * images, num_classes=NUM_CLASSES)
    criterion = build_set_criterion(CriterionConfig(), scores="sigmoid")
    config = hf.ConditionalDetrConfig(auxiliary_loss=True, num_labels=NUM_CLASSES)
    loss: Any = importlib.import_module("transformers.loss.loss_deformable_detr")
    loss_function = loss.DeformableDetrForObjectDetectionLoss
    labels = their_targets(truth)

    def ours() -> None:
        output = DetectorOutput(layer_sets(Prediction(logits, boxes_cxcywh)))
        _backward(criterion(output, truth, num_boxes=images * boxes)["loss"], logits, boxes_cxcywh)

    def theirs() -> None:
        last = (logits[-1], labels, torch.device("cpu"), boxes_cxcywh[-1])
        _backward(
            loss_function(*last, config, logits, boxes_cxcywh)[0],
            logits,
            boxes_cxcywh,
        )

    return alternate({"transformers": theirs, "ours": ours}, rounds=rounds)


def _backward(loss: Tensor, *inputs: Tensor) -> None:
    for tensor in inputs:
        tensor.grad = None
    loss.backward()
