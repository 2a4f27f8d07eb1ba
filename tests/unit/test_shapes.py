import numpy as np
import pytest
from jaxtyping import TypeCheckError

from condetr.shapes import Detections


def three_detections() -> Detections:
    return Detections(
        boxes_xyxy=np.array([[0, 0, 9, 9], [1, 1, 5, 5], [2, 2, 3, 3]], dtype=np.float32),
        scores=np.array([0.9, 0.5, 0.1], dtype=np.float32),
        labels=np.array([1, 0, 1]),
        names=("dog", "cat", "dog"),
    )


def assert_same(actual: Detections, expected: Detections) -> None:
    np.testing.assert_array_equal(actual.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(actual.scores, expected.scores)
    np.testing.assert_array_equal(actual.labels, expected.labels)
    assert actual.names == expected.names


@pytest.mark.parametrize(("threshold", "names"), [(0.0, ("dog", "cat", "dog")), (0.5, ("dog", "cat")), (0.95, ())])
def test_above_keeps_what_scores_at_least_the_threshold(threshold: float, names: tuple[str, ...]) -> None:
    kept = three_detections().above(threshold)
    assert kept.names == names
    assert len(kept) == len(kept.boxes_xyxy) == len(kept.labels) == len(names)


def test_supervision_gives_the_same_detections_back() -> None:
    detections = three_detections()
    assert_same(Detections.from_supervision(detections.to_supervision()), detections)


def test_no_detections_survive_supervision_too() -> None:
    nothing = three_detections().above(1.0)
    assert_same(Detections.from_supervision(nothing.to_supervision()), nothing)


def test_boxes_of_another_count_than_scores_are_refused() -> None:
    with pytest.raises(TypeCheckError):
        Detections(boxes_xyxy=np.zeros((2, 4)), scores=np.zeros(3), labels=np.zeros(3, dtype=int), names=("", "", ""))
