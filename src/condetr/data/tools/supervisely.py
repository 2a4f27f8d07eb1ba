"""Supervisely: `ann/1.jpg.json` for `img/1.jpg`, in a folder for each data set."""

import re
from dataclasses import dataclass
from typing import Any

from condetr.data.findings import Fault, Reading
from condetr.data.index import Index, name_of
from condetr.data.raw import Source
from condetr.data.tools.entries import Point, Word, bounding_box, parsed, size_hw
from condetr.data.tools.page import ImageName, Page, PageImage, Shape
from condetr.data.tools.paired import PairedTool, find_paired
from condetr.errors import InputError

_KEYS = (
    re.compile(r'"objects"\s*:\s*\['),
    re.compile(r'"size"\s*:\s*\{\s*"(height|width)"'),
    re.compile(r'"(tags|classTitle)"\s*:'),
)


@dataclass(frozen=True, kw_only=True)
class _Points:
    exterior: list[Point]


@dataclass(frozen=True, kw_only=True)
class _Object:
    classTitle: Word  # noqa: N815 - as the tool spells it
    geometryType: str  # noqa: N815
    points: Any = None


def find_supervisely(index: Index) -> Source | None:
    """Recognise the files in Supervisely's `ann` folders."""
    return find_paired(SUPERVISELY, index)


def _is_supervisely(text: str) -> bool:
    return all(key.search(text) for key in _KEYS)


def _read(page: Page) -> Reading[PageImage]:
    content = yield from page.json()
    if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
        raise InputError(f"{page.path} is no file of Supervisely, as it has no list `objects`")
    size = content.get("size")
    sides = (size.get("height"), size.get("width")) if isinstance(size, dict) else (None, None)
    name = ImageName((name_of(page.shown).rpartition(".")[0],))
    return (yield from page.image(name, content["objects"], _shape, what="object", size_hw=size_hw(*sides)))


def _shape(entry: Any) -> Shape | None:  # noqa: ANN401 - JSON holds anything
    thing = parsed(_Object, entry)
    if thing.geometryType == "bitmap":
        return Shape(thing.classTitle, None, (Fault.UNREAD_MASK,))
    if thing.geometryType not in ("rectangle", "polygon"):
        return Shape(thing.classTitle, None, (Fault.NO_BOX,))
    points = parsed(_Points, thing.points).exterior
    if len(points) < 2:
        raise InputError(f"has {len(points)} of the points that a {thing.geometryType} needs")
    told = (Fault.OUTLINE,) if thing.geometryType == "polygon" else ()
    return Shape(thing.classTitle, bounding_box(points), told)


SUPERVISELY = PairedTool(
    layout="supervisely", title="Supervisely", suffix=".json", is_its_own=_is_supervisely, read=_read
)
