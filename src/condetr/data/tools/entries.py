"""Entries of files that others wrote, as values: whatever they hold is understood, or refused in a sentence."""

import json
import math
import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import Field, StringConstraints

from condetr.errors import InputError

_LARGEST_COORDINATE = 1e9

Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-_LARGEST_COORDINATE, le=_LARGEST_COORDINATE)]
"""A number of pixels."""
TextCoordinate = Annotated[float, Field(allow_inf_nan=False, ge=-_LARGEST_COORDINATE, le=_LARGEST_COORDINATE)]
"""The same as text."""
Word = Annotated[str, Field(coerce_numbers_to_str=True), StringConstraints(strip_whitespace=True, min_length=1)]
"""A name of a class or a file, without surrounding blanks."""
Point = tuple[Coordinate, Coordinate]

_Model = TypeVar("_Model")
_adapter: Any = cache(pydantic.TypeAdapter)  # of any type, as mypy holds that classes cannot be hashed


@dataclass(frozen=True)
class _Named:
    name: Word


def parsed(model: type[_Model], entry: Any) -> _Model:  # noqa: ANN401 - JSON holds anything
    """Return an entry as the dataclass `model`; raises InputError, which says what it lacks, where it is none."""
    try:
        value: _Model = _adapter(model).validate_python(entry)
    except pydantic.ValidationError as error:
        raise InputError(_complaint(error)) from None
    return value


def parsed_texts(model: type[_Model], texts: dict[str, str]) -> _Model:
    """Return texts, such as the attributes of an XML element, as a dataclass; see `parsed`."""
    try:
        value: _Model = _adapter(model).validate_strings(texts)
    except pydantic.ValidationError as error:
        raise InputError(_complaint(error)) from None
    return value


def word(text: str) -> str:
    """Return a name without surrounding blanks; raises InputError where nothing is left or it is no valid text."""
    return parsed(_Named, {"name": text}).name


def _complaint(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    *_, last = ("it", *first["loc"])
    if first["type"] == "missing":
        return f"has no {last}"
    message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
    if not first["loc"]:
        return f"is {reprlib.repr(first['input'])}, which is no entry"
    return f"has {'.'.join(map(str, first['loc']))} {reprlib.repr(first['input'])}: {message}"


def strings(pattern: re.Pattern[str], text: str) -> list[str]:
    """Return the JSON strings, as text, that a pattern's only group finds."""
    found = []
    for string in pattern.findall(text):
        try:
            found.append(str(json.loads(string)))
        except ValueError:
            continue
    return [string for string in found if string]


def size_hw(height: object, width: object) -> tuple[int, int] | None:
    """Return a size as stated; None where that is no size."""
    if isinstance(height, int) and isinstance(width, int) and 0 < height < 10**9 and 0 < width < 10**9:
        return int(height), int(width)
    return None


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
