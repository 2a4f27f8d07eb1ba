from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condetr.errors import InputError
from condetr.labels import Category, LabelMap

CATEGORIES = st.lists(
    st.builds(Category, st.integers(), st.text(max_size=6)),
    unique_by=(lambda c: c.dataset_id, lambda c: c.name),
    max_size=6,
).map(tuple)


def test_training_ids_are_contiguous_whatever_the_holes_in_the_data() -> None:
    label_map = LabelMap((Category(7, "cat"), Category(90, "dog"), Category(1, "owl")))
    assert label_map.training_ids == {7: 0, 90: 1, 1: 2}
    assert label_map.dataset_ids == (7, 90, 1)
    assert label_map.names == ("cat", "dog", "owl")
    assert len(label_map) == 3


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([(1, "cat"), (1, "dog")], "its own id, but 1 occurs more than once"),
        ([(1, "cat"), (2, "cat")], "its own name, but cat occurs more than once"),
    ],
)
def test_a_repeated_id_or_name_is_refused(categories: list[tuple[int, str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelMap(tuple(Category(*category) for category in categories))


@given(categories=CATEGORIES, random=st.randoms())
def test_rows_give_the_map_back_in_any_order(categories: tuple[Category, ...], random: Random) -> None:
    label_map = LabelMap(categories)
    rows = label_map.to_list()
    random.shuffle(rows)
    assert LabelMap.from_list(rows) == label_map


def test_a_saved_map_is_loaded_the_same(tmp_path: Path) -> None:
    label_map = LabelMap((Category(3, "Bär"), Category(1, "日本")))
    label_map.save(tmp_path / "labels.json")
    assert LabelMap.load(tmp_path / "labels.json") == LabelMap.load(str(tmp_path / "labels.json")) == label_map


@pytest.mark.parametrize("training_ids", [[0, 2], [1, 2], [0, 0]])
def test_training_ids_with_holes_are_refused(training_ids: list[int]) -> None:
    rows = [{"training_id": index, "dataset_id": n, "name": str(n)} for n, index in enumerate(training_ids)]
    with pytest.raises(InputError, match="without gaps"):
        LabelMap.from_list(rows)
