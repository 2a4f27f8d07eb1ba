import base64

import numpy as np
import pytest

from condetr.metrics.matching import PrecisionRecall
from condetr.report.figures import confusion_chart, precision_recall_chart

NAMES = tuple(f"class {number}" for number in range(80))


def svg(data_uri: str) -> str:
    return base64.b64decode(data_uri.removeprefix("data:image/svg+xml;base64,")).decode()


def curves(*, classes: int) -> PrecisionRecall:
    recall = np.linspace(0, 1, 101)
    precision = np.tile(1 - recall, (classes, 1))
    return PrecisionRecall(recall=recall, precision_50=precision, precision_75=precision, score_50=precision)


@pytest.mark.parametrize("classes", [1, 3, 80])
def test_charts_are_drawn_for_few_and_for_many_classes(classes: int) -> None:
    matrix = np.arange((classes + 1) ** 2).reshape(classes + 1, classes + 1)

    chart = precision_recall_chart(curves(classes=classes), names=NAMES[:classes], iou=50)

    assert chart is not None
    assert svg(chart).startswith("<?xml")
    assert svg(confusion_chart(matrix, names=NAMES[:classes])).startswith("<?xml")


def test_without_any_class_there_is_no_curve() -> None:
    undefined = np.full((2, 101), np.nan)
    nothing = PrecisionRecall(np.linspace(0, 1, 101), undefined, undefined, np.zeros((2, 101)))

    assert precision_recall_chart(nothing, names=NAMES[:2], iou=75) is None


def test_an_empty_confusion_matrix_is_drawn() -> None:
    assert confusion_chart(np.zeros((3, 3), int), names=NAMES[:2])
