from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condetr.errors import InputError
from condetr.inference.tiles import Tile, TileFinds, merge_tiles, tiles_of
from condetr.shapes import Detections


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    labels = table[:, 5].astype(np.int64)
    return Detections(
        boxes_xyxy=table[:, :4], scores=table[:, 4], labels=labels, names=tuple(f"class {label}" for label in labels)
    )


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(32, 900), st.floats(0, 0.8))
def test_tiles_cover_the_image_and_overlap_as_asked(height: int, width: int, side: int, overlap: float) -> None:
    tiles = tiles_of((height, width), side=side, overlap=overlap)

    assert all(0 <= t.left < t.right <= width and 0 <= t.top < t.bottom <= height for t in tiles)
    if len(tiles) == 1:
        assert tiles == [Tile(0, 0, width, height)]
        return
    whole, *rest = tiles
    assert whole == Tile(0, 0, width, height)
    assert {(t.bottom - t.top, t.right - t.left) for t in rest} == {(min(side, height), min(side, width))}
    for starts, length in (({t.left for t in rest}, width), ({t.top for t in rest}, height)):
        ordered = sorted(starts)
        assert ordered[0] == 0
        assert ordered[-1] + min(side, length) == length
        for first, second in pairwise(ordered):
            assert first + side - second >= overlap * side - 1


def test_an_image_that_fits_is_one_tile() -> None:
    assert tiles_of((600, 800), side=800, overlap=0.2) == [Tile(0, 0, 800, 600)]


@pytest.mark.parametrize(("side", "overlap"), [(16, 0.2), (800, 1.0), (800, -0.1)])
def test_impossible_tiles_are_refused(side: int, overlap: float) -> None:
    with pytest.raises(InputError, match="tiles need a side of 32 pixels or more"):
        tiles_of((2000, 2000), side=side, overlap=overlap)


LEFT, RIGHT = Tile(0, 0, 100, 100), Tile(80, 0, 180, 100)


def merged(left: Detections, right: Detections, *, limit: int = 100) -> Detections:
    return merge_tiles([TileFinds(LEFT, left), TileFinds(RIGHT, right)], size_hw=(100, 180), limit=limit)


def test_boxes_are_moved_to_their_place_best_first() -> None:
    both = merged(found((10, 10, 30, 30, 0.6, 0)), found((50, 40, 70, 60, 0.9, 1)))

    assert both.boxes_xyxy.tolist() == [[130, 40, 150, 60], [10, 10, 30, 30]]
    assert both.names == ("class 1", "class 0")


def test_an_object_in_two_tiles_is_found_once() -> None:
    both = merged(found((84, 20, 96, 40, 0.6, 0)), found((4, 20, 16, 40, 0.8, 0)))

    assert both.scores.tolist() == pytest.approx([0.8])


def test_a_part_at_the_border_of_its_tile_yields_to_the_whole_even_if_it_scores_more() -> None:
    both = merged(found((85, 20, 100, 40, 0.9, 0)), found((5, 20, 60, 40, 0.5, 0)))

    assert both.boxes_xyxy.tolist() == [[85, 20, 140, 40]]


def test_other_classes_and_boxes_of_one_tile_stay() -> None:
    both = merged(found((84, 20, 96, 40, 0.6, 0), (84, 21, 96, 40, 0.5, 0)), found((4, 20, 16, 40, 0.8, 1)))

    assert len(both) == 3


def test_the_limit_keeps_the_best() -> None:
    both = merged(found((10, 10, 30, 30, 0.6, 0)), found((50, 40, 70, 60, 0.9, 1)), limit=1)

    assert both.names == ("class 1",)


def test_nothing_in_any_tile_is_nothing() -> None:
    assert len(merged(found(), found())) == 0
