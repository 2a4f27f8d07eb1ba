"""Upright boxes around what is drawn otherwise."""

import math
from collections.abc import Iterable

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""


def bounding_box(points: Iterable[tuple[float, float]]) -> Corners:
    """Return the corners of the smallest upright box around points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def turned(corners: Corners, degrees: float, *, about: tuple[float, float]) -> Corners:
    """Return the upright box around a box that is turned clockwise, as seen on the screen, about a point."""
    if not degrees:
        return corners
    x1, y1, x2, y2 = corners
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offsets = [(x - about[0], y - about[1]) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
    return bounding_box((about[0] + x * cosine - y * sine, about[1] + x * sine + y * cosine) for x, y in offsets)


def box_of_ellipse(centre: tuple[float, float], radii: tuple[float, float], *, degrees: float) -> Corners:
    """Return the upright box around an ellipse that is turned about its centre."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width = math.hypot(radii[0] * cosine, radii[1] * sine)
    half_height = math.hypot(radii[0] * sine, radii[1] * cosine)
    return centre[0] - half_width, centre[1] - half_height, centre[0] + half_width, centre[1] + half_height
