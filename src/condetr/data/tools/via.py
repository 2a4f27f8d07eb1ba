"""VGG Image Annotator, versions 1 and 2: JSON, a project's JSON, or CSV.

Its users name the attributes of regions themselves, so the one that is the class has any name.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from condetr.data.findings import Fault, Note, Reading
from condetr.data.index import Index
from condetr.data.raw import Source
from condetr.data.tools.entries import Coordinate, Corners, Word, bounding_box, box_of_ellipse, parsed, strings, word
from condetr.data.tools.listed import ListedTool, find_listed
from condetr.data.tools.page import ImageName, Page, PageImage, Shape
from condetr.errors import InputError

_PREFERRED = ("class", "label", "name", "type")
_ONLY_CLASS = "object"
_NAME = re.compile(r'"filename"\s*:\s*("(?:[^"\\]|\\.)*")')
_REGIONS = re.compile(r'"regions"\s*:\s*[\[{]')
_ATTRIBUTES = re.compile(r'"(?:file_attributes|shape_attributes)"\s*:')
_PROJECT = "_via_img_metadata"
_HEADING = re.compile(
    r"#?filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
)


@dataclass(frozen=True, kw_only=True)
class _Image:
    filename: Word
    regions: list[Any] | dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Region:
    shape_attributes: dict[str, Any]
    region_attributes: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Rectangle:
    x: Coordinate
    y: Coordinate
    width: Coordinate
    height: Coordinate

    def corners(self) -> Corners:
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass(frozen=True, kw_only=True)
class _Circle:
    cx: Coordinate
    cy: Coordinate
    r: Coordinate

    def corners(self) -> Corners:
        return self.cx - self.r, self.cy - self.r, self.cx + self.r, self.cy + self.r


@dataclass(frozen=True, kw_only=True)
class _Ellipse:
    cx: Coordinate
    cy: Coordinate
    rx: Coordinate
    ry: Coordinate
    theta: Coordinate = 0.0
    """In radians."""

    def corners(self) -> Corners:
        return box_of_ellipse((self.cx, self.cy), (self.rx, self.ry), degrees=math.degrees(self.theta))


@dataclass(frozen=True, kw_only=True)
class _Polygon:
    all_points_x: Annotated[list[Coordinate], Field(min_length=2)]
    all_points_y: Annotated[list[Coordinate], Field(min_length=2)]

    def corners(self) -> Corners:
        if len(self.all_points_x) != len(self.all_points_y):
            raise InputError("has points with an x or y too few")
        return bounding_box(zip(self.all_points_x, self.all_points_y, strict=True))


def find_via(index: Index) -> Source | None:
    """Recognise VIA's JSON files."""
    return find_listed(VIA, index)


def find_via_csv(index: Index) -> Source | None:
    """Recognise VIA's CSV files."""
    return find_listed(VIA_CSV, index)


def _is_via(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    return f'"{_PROJECT}"' in text or all(key.search(text) for key in (_NAME, _REGIONS, _ATTRIBUTES))


def _is_via_csv(text: str) -> bool:
    return _HEADING.match(text.replace('"', "").replace(" ", "")) is not None


def _names(text: str) -> list[ImageName]:
    return [ImageName((name,)) for name in strings(_NAME, text)]


def _csv_names(text: str) -> list[ImageName]:
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        return [ImageName((name,)) for name in dict.fromkeys(line[0] for line in lines if line and line[0])][1:]
    except csv.Error:
        return []


def _read(page: Page) -> Reading[list[PageImage]]:
    content = yield from page.json()
    if isinstance(content, dict) and _PROJECT in content:
        content = content[_PROJECT]
    if not isinstance(content, dict):
        raise InputError(f"{page.path} holds no images as VIA writes them")
    found: list[tuple[str, list[Any]]] = []
    for key, entry in content.items():
        try:
            image = parsed(_Image, entry)
        except InputError as error:
            yield page.refused(f"entry {key[:80]!r}", error)
            continue
        found.append(
            (image.filename, list(image.regions.values()) if isinstance(image.regions, dict) else image.regions)
        )
    return (yield from _images(found, page))


def _read_csv(page: Page) -> Reading[list[PageImage]]:
    found: dict[str, list[Any]] = {}
    try:
        text = yield from page.text()
        for number, row in enumerate(csv.reader(io.StringIO(text, newline=""))):
            if number and row:
                yield from _add_row(row, f"row {number + 1}", found, page)
    except csv.Error as error:
        raise InputError(f"{page.path} is not a usable CSV file: {error}") from None
    return (yield from _images(list(found.items()), page))


def _add_row(row: Sequence[str], place: str, found: dict[str, list[Any]], page: Page) -> Iterator[Note]:
    try:
        name, *_, shape, attributes = [*row, *[""] * (7 - len(row))][:7]
        if not name.strip():
            raise InputError("names no image")
        regions = found.setdefault(name.strip(), [])
        drawn = _object(shape)
        if drawn:
            regions.append({"shape_attributes": drawn, "region_attributes": _object(attributes)})
    except InputError as error:
        yield page.refused(place, error)


def _object(cell: str) -> dict[str, Any]:
    """Return the JSON object in a cell, an empty one for an empty cell."""
    try:
        content = json.loads(cell or "{}")
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"has {cell[:40]!r} where a JSON object is expected")
    return content


def _images(found: Sequence[tuple[str, list[Any]]], page: Page) -> Reading[list[PageImage]]:
    attribute = yield from _class_attribute([region for _, regions in found for region in regions], page)
    shape = partial(_shape, attribute=attribute)
    images = []
    for name, regions in found:
        where = f"{name}: "
        images.append((yield from page.image(ImageName((name,)), regions, shape, what="region", where=where)))
    return images


def _class_attribute(regions: Sequence[Any], page: Page) -> Reading[str | None]:
    """Return which attribute is the class: the only one that is filled in, or one that is called so."""
    filled = list(dict.fromkeys(key for region in regions for key in _filled(region)))
    if not filled:
        if regions:
            yield Note(Fault.NO_CLASSES, page.shown)
        return None
    if len(filled) == 1:
        return filled[0]
    by_name = {key.strip().lower(): key for key in reversed(filled)}
    chosen = next((by_name[name] for name in _PREFERRED if name in by_name), None)
    if chosen is None:
        raise InputError(
            f"{page.path} does not tell which of the attributes of its regions is the class: "
            f"{', '.join(repr(key[:40]) for key in filled[:10])}; call it `class`"
        )
    yield Note(Fault.CHOSEN_ATTRIBUTE, f"{page.shown}: {chosen} of {', '.join(filled[:10])}")
    return chosen


def _filled(region: Any) -> Iterator[str]:  # noqa: ANN401 - JSON holds anything
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    for key, value in attributes.items() if isinstance(attributes, dict) else ():
        if _words(value):
            yield key


def _words(value: Any) -> list[str]:  # noqa: ANN401 - JSON holds anything
    """Return the classes that an attribute names: its text, or the boxes that are ticked in it."""
    if isinstance(value, dict):
        return [key.strip() for key, is_ticked in value.items() if is_ticked is True and key.strip()]
    is_word = isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
    return [str(value).strip()] if is_word and str(value).strip() else []


def _shape(entry: Any, *, attribute: str | None) -> Shape | None:  # noqa: ANN401 - JSON holds anything
    region = parsed(_Region, entry)
    kind = region.shape_attributes.get("name")
    if kind in ("point", "polyline"):
        return Shape("", None, (Fault.NO_BOX,))
    outline = _OUTLINES.get(kind) if isinstance(kind, str) else None
    if outline is None:
        raise InputError(f"has the shape {str(kind)[:40]!r}, which condetr does not know")
    words = [_ONLY_CLASS] if attribute is None else _words(region.region_attributes.get(attribute))
    if not words:
        raise InputError(f"has no {attribute}")
    corners = parsed(outline, region.shape_attributes).corners()
    told = (Fault.OUTLINE,) * (kind != "rect") + (Fault.SEVERAL_LABELS,) * (len(words) > 1)
    return Shape(word(words[0]), corners, told)


_OUTLINES: Mapping[str, type[_Rectangle | _Circle | _Ellipse | _Polygon]] = {
    "rect": _Rectangle,
    "circle": _Circle,
    "ellipse": _Ellipse,
    "polygon": _Polygon,
}
VIA = ListedTool(layout="via", title="VIA", suffixes=(".json",), is_its_own=_is_via, names=_names, read=_read)
VIA_CSV = ListedTool(
    layout="via", title="VIA", suffixes=(".csv",), is_its_own=_is_via_csv, names=_csv_names, read=_read_csv
)
