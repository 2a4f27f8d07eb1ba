"""labelme: a JSON file for each image, mostly beside it."""

import math
import ntpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from condetr.data.findings import Fault, Note, Reading
from condetr.data.index import Index
from condetr.data.raw import Source
from condetr.data.tools.entries import Point, Word, bounding_box, parsed, size_hw
from condetr.data.tools.page import ImageName, Page, PageBox, PageImage, Shape
from condetr.data.tools.paired import PairedTool, find_paired
from condetr.errors import InputError

_KEYS = re.compile(r'"shapes"\s*:\s*\['), re.compile(r'"imagePath"\s*:')
_OUTLINES = ("polygon", "oriented_rectangle", "rotation")
_LINES = ("point", "points", "line", "linestrip")


@dataclass(frozen=True, kw_only=True)
class _Shape:
    label: Word
    points: list[Point]
    shape_type: str | None = None
    """None in old files, which know polygons alone."""


def find_labelme(index: Index) -> Source | None:
    """Recognise labelme's files."""
    return find_paired(LABELME, index)


def _is_labelme(text: str) -> bool:
    return all(key.search(text) for key in _KEYS)


def _read(page: Page) -> Reading[PageImage]:
    content = yield from page.json()
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise InputError(f"{page.path} is no file of labelme, as it has no list `shapes`")
    name = content.get("imagePath")
    image = yield from page.image(
        ImageName((ntpath.basename(name),) if isinstance(name, str) and ntpath.basename(name) else ()),
        content["shapes"],
        _shape,
        what="shape",
        size_hw=size_hw(content.get("imageHeight"), content.get("imageWidth")),
    )
    boxes = _of_groups(image.boxes, content["shapes"])
    if len(boxes) < len(image.boxes):
        yield Note(Fault.GROUPED, page.shown, count=len(image.boxes) - len(boxes))
    return image._replace(boxes=boxes)


def _shape(entry: Any) -> Shape | None:  # noqa: ANN401 - JSON holds anything
    shape = parsed(_Shape, entry)
    kind = shape.shape_type or "polygon"
    if shape.label == "__ignore__":
        return Shape(shape.label, None, (Fault.DONT_CARE,))
    if kind in _LINES:
        return Shape(shape.label, None, (Fault.NO_BOX,))
    if len(shape.points) < 2:
        raise InputError(f"has {len(shape.points)} of the points that a {kind} needs")
    if kind == "circle":
        (x, y), on_edge = shape.points[:2]
        radius = math.dist((x, y), on_edge)
        return Shape(shape.label, (x - radius, y - radius, x + radius, y + radius), (Fault.OUTLINE,))
    if kind in ("rectangle", "mask"):  # a mask's two points are its corners
        return Shape(shape.label, bounding_box(shape.points))
    if kind in _OUTLINES:
        return Shape(shape.label, bounding_box(shape.points), (Fault.OUTLINE,))
    raise InputError(f"has shape_type {kind[:40]!r}, which condetr does not know")


def _of_groups(boxes: Sequence[PageBox], entries: Sequence[Any]) -> list[PageBox]:
    """Make one box of the outlines that are parts of one object: those of one class and group."""
    joined: dict[object, PageBox] = {}
    for box in boxes:
        group, kind = (entries[box.number].get(key) for key in ("group_id", "shape_type"))
        is_part = isinstance(group, int) and kind in (None, "polygon", "mask")
        key = (box.name, group) if is_part else box.number
        before = joined.get(key)
        joined[key] = box if before is None else _around(before, box)
    return list(joined.values())


def _around(first: PageBox, second: PageBox) -> PageBox:
    points = [point for box in (first, second) for point in (box.corners[:2], box.corners[2:])]
    return first._replace(corners=bounding_box(points))


LABELME = PairedTool(layout="labelme", title="labelme", suffix=".json", is_its_own=_is_labelme, read=_read)
