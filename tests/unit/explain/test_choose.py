import numpy as np
import pytest
import torch

from condetr.errors import InputError
from condetr.explain.capture import AttentionLogits
from condetr.explain.cells import CellAttention
from condetr.explain.choose import choose
from condetr.explain.view import View
from condetr.shapes import Detections

BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30], [22, 20, 32, 30]], np.float32)


def view(*, scores: tuple[float, ...], names: tuple[str, ...], queries: tuple[int, ...] = (2, 2, 0, 1)) -> View:
    """Return four detections on an image of 40 x 40, the first two being of one query."""
    logits = torch.randn(1, 2, 4, 16)
    return View(
        pixels=np.zeros((40, 40, 3), np.uint8),
        layer=1,
        num_layers=2,
        detections=Detections(
            boxes_xyxy=BOXES, scores=np.array(scores, np.float32), labels=np.zeros(4, np.int64), names=names
        ),
        queries=queries,
        attention=CellAttention(
            AttentionLogits(logits, logits, torch.zeros(1, 16, dtype=torch.bool)),
            map_size_hw=(4, 4),
            is_one_sum=False,
            is_mixed=False,
            reference_xy=None,
        ),
    )


GOOD = view(scores=(0.9, 0.8, 0.7, 0.1), names=("cat", "dog", "cat", "cat"))


def test_all_detections_are_those_above_the_threshold_each_query_once() -> None:
    chosen = choose({"a": GOOD}, query="all", threshold=0.5)
    assert [(shown.explanation.query, shown.explanation.name) for (shown,) in chosen] == [(2, "cat"), (0, "cat")]


def test_a_query_is_chosen_by_its_number_whatever_it_scores() -> None:
    ((shown,),) = choose({"a": GOOD}, query=1, heads=[1])
    assert (shown.explanation.query, shown.heads) == (1, [1])
    np.testing.assert_allclose(shown.explanation.box_xyxy, [0.55, 0.5, 0.8, 0.75])


def test_another_model_is_asked_for_the_same_object() -> None:
    other = view(scores=(0.9, 0.8, 0.3, 0.29), names=("cat", "dog", "dog", "cat"), queries=(0, 1, 2, 3))
    ((first, second),) = choose({"a": GOOD, "b": other}, query=0)
    assert first.explanation.query == 0
    assert (second.model, second.explanation.name, second.explanation.query) == ("b", "cat", 3)


def test_another_model_that_lacks_the_class_is_asked_for_the_place() -> None:
    other = view(scores=(0.9, 0.8, 0.3, 0.1), names=("car", "bus", "bus", "car"), queries=(0, 1, 2, 3))
    ((_, second),) = choose({"a": GOOD, "b": other}, query=0)
    assert second.explanation.query == 2


def test_an_object_of_that_class_elsewhere_is_not_the_same_object() -> None:
    other = view(scores=(0.9, 0.8, 0.3, 0.1), names=("cat", "cat", "dog", "bus"), queries=(0, 1, 2, 3))
    ((_, second),) = choose({"a": GOOD, "b": other}, query=0)
    assert (second.explanation.name, second.explanation.query) == ("dog", 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"query": 3}, "there is no query 3; the queries of this model are 0 to 2"),
        ({"query": "best", "threshold": 0.95}, "scores 0.95 or more, the best is cat with 0.900"),
        ({"heads": [0, 2]}, "there is no head 2 in a; its heads are 0 to 1"),
    ],
)
def test_what_is_not_there_is_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        choose({"a": GOOD}, **arguments)  # type: ignore[arg-type]


def test_a_notebook_shows_the_heads() -> None:
    ((shown,),) = choose({"a": GOOD})
    html = shown._repr_html_()
    assert html.startswith('<img src="data:image/png;base64,iVBORw0KGgo')
    assert html.count("<") == 1
