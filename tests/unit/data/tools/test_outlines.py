import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condetr.data.tools.entries import bounding_box, box_of_ellipse, turned

NUMBERS = st.floats(-100, 100)
SIDES = st.floats(0.1, 50)
DEGREES = st.floats(-720, 720)


@given(x=NUMBERS, y=NUMBERS, width=SIDES, height=SIDES, degrees=DEGREES)
def test_turning_about_the_centre_keeps_the_centre(
    x: float, y: float, width: float, height: float, degrees: float
) -> None:
    x1, y1, x2, y2 = turned((x, y, x + width, y + height), degrees, about=(x + width / 2, y + height / 2))

    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((x + width / 2, y + height / 2), abs=1e-9)


@given(x=NUMBERS, y=NUMBERS, width=SIDES, height=SIDES, turns=st.integers(-3, 3))
def test_whole_turns_change_nothing(x: float, y: float, width: float, height: float, turns: int) -> None:
    box = (x, y, x + width, y + height)

    assert turned(box, turns * 360.0, about=(x, y)) == pytest.approx(box, abs=1e-9)


@given(centre=st.tuples(NUMBERS, NUMBERS), radii=st.tuples(SIDES, SIDES), degrees=DEGREES)
def test_the_box_of_an_ellipse_is_that_of_many_of_its_points(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float
) -> None:
    turn = math.radians(degrees)
    points = []
    for step in range(3600):
        x, y = radii[0] * math.cos(step / 573), radii[1] * math.sin(step / 573)
        across, down = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
        points.append((centre[0] + across, centre[1] + down))

    assert box_of_ellipse(centre, radii, degrees=degrees) == pytest.approx(bounding_box(points), abs=1e-3)
