import numpy as np
import pytest
import torch

from condetr.errors import InputError
from condetr.inference.detect import to_detections
from condetr.labels import Category, LabelMap
from condetr.shapes import Prediction

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))


def prediction(logits: list[list[float]]) -> Prediction:
    """Return one image's prediction; query q has its centre at (0.1 q, 0.5) and the size (0.2, 0.4)."""
    boxes = [[0.1 * query, 0.5, 0.2, 0.4] for query in range(len(logits))]
    return Prediction(torch.tensor([logits]), torch.tensor([boxes]))


def test_sigmoid_lets_one_query_yield_several_labels() -> None:
    found = to_detections(
        prediction([[2.0, 1.0], [-3.0, 0.0]]), scores="sigmoid", sizes_hw=[(100, 200)], label_map=LABELS, limit=3
    )[0]

    assert found.names == ("bolt", "nut", "nut")
    np.testing.assert_allclose(found.scores, torch.tensor([2.0, 1.0, 0.0]).sigmoid())
    np.testing.assert_array_equal(found.boxes_xyxy[0], found.boxes_xyxy[1])


def test_softmax_takes_the_best_class_of_each_query_and_never_no_object() -> None:
    logits = [[0.0, 1.0, 5.0], [2.0, 0.0, 0.0]]

    found = to_detections(prediction(logits), scores="softmax", sizes_hw=[(100, 200)], label_map=LABELS)[0]

    assert found.names == ("bolt", "nut")
    np.testing.assert_allclose(found.scores, torch.tensor(logits).softmax(-1)[[1, 0], [0, 1]], rtol=1e-6)


def test_boxes_are_scaled_to_the_original_image_and_not_clipped() -> None:
    found = to_detections(prediction([[1.0, 0.0]]), scores="sigmoid", sizes_hw=[(100, 200)], label_map=LABELS, limit=1)[
        0
    ]

    np.testing.assert_allclose(found.boxes_xyxy, [[-20, 30, 20, 70]], atol=1e-4)


def test_each_image_has_its_own_size() -> None:
    logits, boxes = torch.zeros(2, 1, 2), torch.tensor([[[0.5, 0.5, 1.0, 1.0]]] * 2)

    found = to_detections(
        Prediction(logits, boxes), scores="sigmoid", sizes_hw=[(10, 20), (30, 40)], label_map=LABELS, limit=1
    )

    assert [each.boxes_xyxy.tolist() for each in found] == [[[0, 0, 20, 10]], [[0, 0, 40, 30]]]


def test_scores_come_best_first_and_a_limit_above_what_there_is_is_no_error() -> None:
    logits = torch.linspace(-3, 3, 8).view(1, 4, 2)

    found = to_detections(
        Prediction(logits, torch.rand(1, 4, 4)), scores="sigmoid", sizes_hw=[(9, 9)], label_map=LABELS, limit=100
    )[0]

    assert len(found) == 8
    assert (np.diff(found.scores) <= 0).all()


def test_half_precision_is_ranked_in_single_precision() -> None:
    exact = prediction([[2.0, 1.0], [-3.0, 0.0]])
    half = Prediction(exact.logits.bfloat16(), exact.boxes_cxcywh.bfloat16())

    found = to_detections(half, scores="sigmoid", sizes_hw=[(100, 200)], label_map=LABELS)[0]

    assert found.scores.dtype == found.boxes_xyxy.dtype == np.float32
    np.testing.assert_allclose(found.scores[:2], torch.tensor([2.0, 1.0]).sigmoid(), rtol=1e-6)


def test_there_may_be_a_limit_of_none_but_not_less() -> None:
    arguments = {"scores": "sigmoid", "sizes_hw": [(100, 200)], "label_map": LABELS}
    assert len(to_detections(prediction([[1.0, 0.0]]), **arguments, limit=0)[0].scores) == 0  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got -1"):
        to_detections(prediction([[1.0, 0.0]]), **arguments, limit=-1)  # type: ignore[arg-type]
