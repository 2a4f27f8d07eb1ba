from dataclasses import replace

import pytest

from condetr.errors import InputError
from condetr.interop.classes import (
    COCO_NAMES,
    classes_of_map,
    coco_classes,
    from_id2label,
    to_id2label,
    unnamed_classes,
)
from condetr.labels import Category, LabelMap, Rows

TWO = LabelMap((Category(3, "bolt"), Category(7, "nut")))


def test_coco_has_80_classes_and_11_rows_without_one() -> None:
    label_map = coco_classes()

    assert len(label_map) == len(COCO_NAMES) == 80
    assert label_map.row_of_each == label_map.dataset_ids
    unnamed = set(range(label_map.num_rows)) - set(label_map.row_of_each)
    assert sorted(unnamed) == [
        0,
        12,
        26,
        29,
        30,
        45,
        66,
        68,
        69,
        71,
        83,
    ]


def test_unnamed_rows_get_their_number() -> None:
    label_map = unnamed_classes(2)

    assert (label_map.categories, label_map.rows) == ((Category(0, "class 0"), Category(1, "class 1")), None)


def test_as_many_rows_as_classes_are_in_the_order_of_the_map() -> None:
    assert classes_of_map(TWO, num_rows=2, source="it") == TWO


def test_more_rows_are_numbered_by_the_datas_ids() -> None:
    assert classes_of_map(TWO, num_rows=8, source="it") == replace(TWO, rows=Rows((3, 7), 8))


@pytest.mark.parametrize("num_rows", [1, 7])
def test_too_few_rows_are_refused(num_rows: int) -> None:
    with pytest.raises(InputError, match="the 2 classes have ids up to 7"):
        classes_of_map(TWO, num_rows=num_rows, source="it")


@pytest.mark.parametrize("label_map", [coco_classes(), unnamed_classes(3)])
def test_names_survive_transformers(label_map: LabelMap) -> None:
    names = to_id2label(label_map)

    assert len(names) == label_map.num_rows
    assert from_id2label(names, num_rows=len(names), source="it") == label_map


def test_rows_without_a_class_have_the_name_that_transformers_gives_them() -> None:
    assert to_id2label(replace(TWO, rows=Rows((1, 3), 4))) == {0: "N/A", 1: "bolt", 2: "N/A", 3: "nut"}


@pytest.mark.parametrize("id2label", [{}, {"0": "a"}, {"0": "a", "2": "b"}, {"zero": "a", "one": "b"}])
def test_names_of_other_rows_are_refused(id2label: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"id2label must name the class rows 0\.\.1"):
        from_id2label(id2label, num_rows=2, source="it")


def test_names_without_a_class_are_refused() -> None:
    with pytest.raises(InputError, match="names no class"):
        from_id2label({"0": "N/A", "1": "n/a"}, num_rows=2, source="it")


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="bolt occurs more than once"):
        from_id2label({"0": "bolt", "1": "bolt"}, num_rows=2, source="it")
