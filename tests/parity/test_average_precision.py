"""Our average precision is pycocotools', also where boxes and areas disagree and detections are very many.

Crowds, empty images, ties and absent classes are in tests/property/test_metrics_laws.py, whose oracle this uses.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condetr.data.dataset import Split
from condetr.metrics.coco import evaluate_coco
from tests.property.test_metrics_laws import LABELS, Thing, figures, found_in, pycocotools_figures, truth

EDGES = (0.0, 1023.9, 1024.0, 1024.1, 9215.9, 9216.0, 9216.1, 1e5)
"""Areas at the borders of COCO's small, medium and large."""


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(EDGES)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=8),
)
@settings(max_examples=30)
def test_areas_of_the_file_decide_about_size(objects: list[tuple[int, float]], guesses: list[tuple[int, int]]) -> None:
    things = [Thing((60 * n, 0, 60 * n + 50, 50), label, False, 1.0) for n, (label, _) in enumerate(objects)]
    found = [
        Thing((60 * n + shift, 0, 60 * n + 50, 50), label, False, 9.0 - n) for n, (label, shift) in enumerate(guesses)
    ]
    areas = np.array([area for _, area in objects], np.float32)
    split = Split(name="val", records=(replace(truth(1, things), areas=areas),), label_map=LABELS)

    _assert_equal(split, found)


@pytest.mark.parametrize("count", [1, 10, 99, 100, 101, 150])
def test_detections_beyond_the_hundredth_do_not_count(count: int) -> None:
    things = [Thing((0, 0, 50, 50), 0, False, 1.0)]
    wrong = [Thing((100, 100, 150, 150), 0, False, 9.0)] * (count - 1)
    split = Split(name="val", records=(truth(1, things),), label_map=LABELS)

    _assert_equal(split, [*wrong, Thing((0, 0, 50, 50), 0, False, 1.0)])


def _assert_equal(split: Split, things: list[Thing]) -> None:
    found = found_in({1: ([], things)})
    expected = [np.nan if value == -1 else value for value in pycocotools_figures(split, found)]

    assert figures(evaluate_coco(split, found)) == pytest.approx(expected, abs=1e-6, nan_ok=True)
