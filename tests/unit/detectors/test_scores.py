import numpy as np
import pytest
import torch

from condetr.detectors.scores import RANKINGS, Scores
from condetr.inference.detect import to_detections
from condetr.labels import Category, LabelMap
from condetr.shapes import Detections, Prediction

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))


def prediction(logits: list[list[float]]) -> Prediction:
    """Return one image's prediction; query q has its centre at (0.1 q, 0.5) and the size (0.2, 0.4)."""
    boxes = [[0.1 * query, 0.5, 0.2, 0.4] for query in range(len(logits))]
    return Prediction(torch.tensor([logits]), torch.tensor([boxes]))


def detections(predicted: Prediction, *, scores: Scores = "sigmoid", limit: int = 100) -> Detections:
    (found,) = RANKINGS[scores](predicted, limit)
    return to_detections(found, size_hw=(100, 200), label_map=LABELS)


def test_sigmoid_lets_one_query_yield_several_labels() -> None:
    found = detections(prediction([[2.0, 1.0], [-3.0, 0.0]]), limit=3)

    assert found.names == ("bolt", "nut", "nut")
    np.testing.assert_allclose(found.scores, torch.tensor([2.0, 1.0, 0.0]).sigmoid())
    np.testing.assert_array_equal(found.boxes_xyxy[0], found.boxes_xyxy[1])


def test_softmax_takes_the_best_class_of_each_query_and_never_no_object() -> None:
    logits = [[0.0, 1.0, 5.0], [2.0, 0.0, 0.0]]

    found = detections(prediction(logits), scores="softmax")

    assert found.names == ("bolt", "nut")
    np.testing.assert_allclose(found.scores, torch.tensor(logits).softmax(-1)[[1, 0], [0, 1]], rtol=1e-6)


def test_boxes_are_scaled_to_the_original_image_and_not_clipped() -> None:
    found = detections(prediction([[1.0, 0.0]]), limit=1)

    np.testing.assert_allclose(found.boxes_xyxy, [[-20, 30, 20, 70]], atol=1e-4)


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_what_is_found_says_which_query_it_is_from(scores: Scores) -> None:
    predicted = prediction([[-3.0, -1.0, 0.0], [2.0, 0.0, 0.0]])

    (found,) = RANKINGS[scores](predicted, 100)

    assert found.source[0] == 1
    torch.testing.assert_close(found.boxes_cxcywh, predicted.boxes_cxcywh[0, found.source])


def test_scores_come_best_first_and_a_limit_above_what_there_is_is_no_error() -> None:
    found = detections(Prediction(torch.linspace(-3, 3, 8).view(1, 4, 2), torch.rand(1, 4, 4)))

    assert len(found) == 8
    assert (np.diff(found.scores) <= 0).all()


def test_half_precision_is_ranked_in_single_precision() -> None:
    exact = prediction([[2.0, 1.0], [-3.0, 0.0]])

    found = detections(Prediction(exact.logits.bfloat16(), exact.boxes_cxcywh.bfloat16()))

    assert found.scores.dtype == found.boxes_xyxy.dtype == np.float32
    np.testing.assert_allclose(found.scores[:2], torch.tensor([2.0, 1.0]).sigmoid(), rtol=1e-6)


def test_there_may_be_a_limit_of_none() -> None:
    assert len(detections(prediction([[1.0, 0.0]]), limit=0)) == 0
