import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from condetr.inference.look import _WAITING_BATCHES, Look, Seen, Unread, _ahead, _of_one_kind
from condetr.inference.model_folder import LoadedModel
from condetr.inference.predictor import Predictor


@pytest.fixture
def predictor(tiny: LoadedModel) -> Predictor:
    return Predictor(tiny.detector, transform=tiny.transform, label_map=tiny.label_map)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Seven images of two sizes, and one that is none."""
    rng = np.random.default_rng(0)
    for number in range(7):
        size_hw = (40, 56) if number % 3 else (56, 40)
        Image.fromarray(rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "3a.png").write_bytes(b"no image")
    return sorted(tmp_path.iterdir())


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(1, 5))
def test_groups_hold_every_item_once_of_one_kind_and_few_wait(kinds: list[int], most: int) -> None:
    taken = 0

    def items() -> Iterator[tuple[int, int]]:
        nonlocal taken
        for item in enumerate(kinds):
            taken += 1
            yield item

    given_back: list[tuple[int, int]] = []
    for group in _of_one_kind(items(), kind=lambda item: item[1], most=most):
        assert 1 <= len(group) <= most
        assert len({kind for _, kind in group}) == 1
        assert taken - len(given_back) <= _WAITING_BATCHES * most + 1
        given_back += group

    assert sorted(given_back) == list(enumerate(kinds))


def test_work_that_is_begun_ahead_keeps_its_order() -> None:
    assert list(_ahead(lambda number: number**2, range(50), threads=3)) == [number**2 for number in range(50)]


@pytest.mark.parametrize("tile", [None, 32])
def test_batches_and_readers_find_what_single_images_show(
    predictor: Predictor, images: list[Path], tile: int | None
) -> None:
    alone = list(Look(predictor=predictor, tile=tile)(images))
    together = sorted(Look(predictor=predictor, tile=tile, batch_size=3, readers=2)(images), key=_position)

    for one, other in zip(alone, together, strict=True):
        assert _position(one) == _position(other)
        if isinstance(one, Seen) and isinstance(other, Seen):
            np.testing.assert_allclose(one.detections.boxes_xyxy, other.detections.boxes_xyxy, atol=1e-3)
            assert one.image.source == other.image.source
    assert [Path(each.source).name for each in together if isinstance(each, Unread)] == ["3a.png"]


def test_the_order_of_what_is_seen_does_not_depend_on_threads(predictor: Predictor, images: list[Path]) -> None:
    orders = [
        [_position(each) for each in Look(predictor=predictor, batch_size=3, readers=readers)(images)]
        for readers in (0, 1, 4)
    ]

    assert orders[0] == orders[1] == orders[2]


def test_threads_leave_the_filters_of_warnings_as_they_were(predictor: Predictor, images: list[Path]) -> None:
    before = list(warnings.filters)

    list(Look(predictor=predictor, readers=4)(images * 5))

    assert warnings.filters == before


def _position(each: Seen | Unread) -> int:
    return each.position if isinstance(each, Unread) else each.image.position
