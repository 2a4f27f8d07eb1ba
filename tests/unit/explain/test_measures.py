import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from condetr.explain.measures import OPPOSITE, SIDES, MapNumbers, Side, heads_of_sides, measure, watched, who_watches

BOX = np.array([0.25, 0.25, 0.75, 0.75], np.float32)
MIDDLE: dict[Side, tuple[int, int]] = {"left": (8, 4), "top": (4, 8), "right": (8, 11), "bottom": (11, 8)}
"""A cell of a 16 x 16 map on each side of the box."""


def map_at(row: int, column: int) -> np.ndarray:
    attention = np.zeros((16, 16), np.float32)
    attention[row, column] = 1
    return attention


def looking(left: float = 0.1, top: float = 0.1, right: float = 0.1, bottom: float = 0.1) -> MapNumbers:
    sides: dict[Side, float] = {"left": left, "top": top, "right": right, "bottom": bottom}
    return MapNumbers(centre_xy=(0.5, 0.5), in_box=0.4, at_sides=sides, entropy=3.0, evenness=0.5)


maps = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(0.125, 1, width=32))
boxes = st.tuples(st.floats(0, 0.4), st.floats(0, 0.4), st.floats(0.6, 1), st.floats(0.6, 1)).map(
    lambda corners: np.array(corners, np.float32)
)


@pytest.mark.parametrize("side", SIDES)
def test_mass_on_a_side_is_found_there(side: Side) -> None:
    numbers = measure(map_at(*MIDDLE[side]), box_xyxy=BOX)
    assert watched(numbers) == side
    assert numbers.at_sides[side] == pytest.approx(1)
    assert numbers.at_sides[OPPOSITE[side]] == 0
    assert numbers.in_box == pytest.approx(1)
    assert numbers.entropy == 0


def test_the_middle_the_surroundings_and_an_even_map_are_told_apart() -> None:
    middle, far, even = map_at(8, 8), map_at(0, 0), np.full((16, 16), 1 / 256, np.float32)
    assert [watched(measure(each, box_xyxy=BOX)) for each in (middle, far, even)] == [
        "inside",
        "elsewhere",
        "everywhere",
    ]


def test_the_centre_of_mass_is_in_units_of_the_box() -> None:
    attention = np.array([[0.5, 0.0], [0.0, 0.5]], np.float32)
    assert measure(attention, box_xyxy=BOX).centre_xy == pytest.approx((0.5, 0.5))
    assert measure(map_at(3, 12), box_xyxy=BOX).centre_xy == pytest.approx((1.0625, -0.0625))


def test_a_cell_is_shared_out_by_area() -> None:
    quarter = np.array([0.5, 0.5, 1, 1], np.float32)
    numbers = measure(np.ones((1, 1), np.float32), box_xyxy=quarter)
    assert numbers.in_box == pytest.approx(0.25)
    assert numbers.at_sides["left"] == pytest.approx(0.25 * 0.625)


@given(maps, boxes)
def test_a_mirrored_map_swaps_left_and_right(attention: np.ndarray, box_xyxy: np.ndarray) -> None:
    attention = attention / attention.sum()
    x0, y0, x1, y1 = box_xyxy
    one = measure(attention, box_xyxy=box_xyxy)
    other = measure(attention[:, ::-1], box_xyxy=np.array([1 - x1, y0, 1 - x0, y1], np.float32))
    assert one.at_sides["left"] == pytest.approx(other.at_sides["right"], abs=1e-4)
    assert one.at_sides["top"] == pytest.approx(other.at_sides["top"], abs=1e-4)
    assert one.centre_xy == pytest.approx((1 - other.centre_xy[0], other.centre_xy[1]), abs=1e-4)


@given(maps, boxes)
def test_shares_and_entropy_stay_within_their_bounds(attention: np.ndarray, box_xyxy: np.ndarray) -> None:
    numbers = measure(attention / attention.sum(), box_xyxy=box_xyxy)
    assert all(-1e-6 <= share <= 1 + 1e-5 for share in (numbers.in_box, *numbers.at_sides.values()))
    assert 0 <= numbers.entropy <= np.log2(max(attention.size, 1)) + 1e-4


def test_each_side_gets_a_head_of_its_own() -> None:
    heads = [looking(bottom=0.5), looking(left=0.8), looking(left=0.7, top=0.6), looking(right=0.3), looking()]
    assert heads_of_sides(heads) == {"left": 1, "top": 2, "right": 3, "bottom": 0}
    assert heads_of_sides(heads[:2]) == {"left": 1, "bottom": 0}


def test_one_line_says_who_watches_what() -> None:
    heads = [looking(bottom=0.5), looking(left=0.8), looking(bottom=0.7), looking()]
    assert who_watches(heads) == "left: head 1 · bottom: heads 0, 2 · elsewhere: head 3"
