"""The same logits and boxes become the same detections as with transformers' image processors."""

from typing import Any

import numpy as np
import pytest
import torch

from condetr.detectors.scores import RANKINGS
from condetr.inference.detect import to_detections
from condetr.interop.classes import unnamed_classes
from condetr.shapes import Detections, Prediction
from tests.parity.peers import Kind, hf
from tests.parity.test_losses import KINDS

SIZES_HW = [(480, 640), (333, 500)]


def prediction(*, columns: int) -> Prediction:
    generator = torch.Generator().manual_seed(3)
    return Prediction(2 * torch.randn(2, 300, columns, generator=generator), torch.rand(2, 300, 4, generator=generator))


def their_detections(kind: Kind, predicted: Prediction) -> list[dict[str, torch.Tensor]]:
    processor = hf.DetrImageProcessor() if kind == "detr" else hf.ConditionalDetrImageProcessor()
    output = hf.modeling_outputs.ModelOutput(logits=predicted.logits, pred_boxes=predicted.boxes_cxcywh)
    found: Any = processor.post_process_object_detection(output, threshold=0.0, target_sizes=SIZES_HW)
    return list(found)


def best_first(found: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    order = found["scores"].argsort(descending=True, stable=True)[:100]
    return {name: values[order].numpy() for name, values in found.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_hundred_best_are_the_same(kind: Kind) -> None:
    is_softmax = kind == "detr"
    predicted = prediction(columns=20 + is_softmax)

    found = RANKINGS["softmax" if is_softmax else "sigmoid"](predicted, 100)
    label_map = unnamed_classes(20)
    ours: list[Detections] = [
        to_detections(each, size_hw=size_hw, label_map=label_map) for each, size_hw in zip(found, SIZES_HW, strict=True)
    ]

    for mine, theirs in zip(ours, map(best_first, their_detections(kind, predicted)), strict=True):
        assert len(mine) == 100
        np.testing.assert_array_equal(mine.labels, theirs["labels"])
        np.testing.assert_allclose(mine.scores, theirs["scores"], rtol=1e-6)
        np.testing.assert_allclose(mine.boxes_xyxy, theirs["boxes"], rtol=1e-6, atol=1e-4)
