from pathlib import Path

import numpy as np
import pytest

from condetr.data.dataset import ImageRecord, Split
from condetr.errors import InputError
from condetr.labels import Category, LabelMap
from condetr.runs.part import in_classes_of

KNOWN = LabelMap((Category(1, "ant"), Category(2, "cat"), Category(3, "dog")))


def split_of(*names: str, ids_are_counted: bool) -> Split:
    """Return an image with an object of each class; ids follow the names from 1."""
    count = len(names)
    record = ImageRecord(
        image_id=0,
        path=Path("0.jpg"),
        size_hw=(9, 9),
        boxes_xyxy=np.tile([1.0, 1.0, 5.0, 5.0], (count, 1)),
        labels=np.arange(count),
        is_crowd=np.zeros(count, bool),
        areas=np.full(count, 16.0),
    )
    categories = tuple(Category(number, name) for number, name in enumerate(names, start=1))
    return Split(name="test", records=(record,), label_map=LabelMap(categories, ids_are_counted=ids_are_counted))


def test_classes_whose_ids_are_counted_are_known_by_name() -> None:
    truth = in_classes_of(KNOWN, split_of("dog", "cat", ids_are_counted=True), weights="run", data="data")
    assert truth.label_map == KNOWN
    assert truth.records[0].labels.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("names", "ids_are_counted", "sentence"),
    [
        (("cat", "owl"), True, "by name: only in the weights ant, dog; only in the data owl; take data with the same"),
        (("cat", "dog"), False, r"by name \(id\): only in the weights ant \(1\), cat \(2\), .* category names and ids"),
    ],
)
def test_classes_that_the_model_does_not_know_are_named(
    names: tuple[str, ...], sentence: str, *, ids_are_counted: bool
) -> None:
    with pytest.raises(InputError, match=f"the classes of run and data differ {sentence}"):
        in_classes_of(KNOWN, split_of(*names, ids_are_counted=ids_are_counted), weights="run", data="data")
