"""CreateML: a JSON list of images; the x and y of a box are its centre."""

import re
from dataclasses import dataclass
from typing import Any

from condetr.data.findings import Reading
from condetr.data.index import Index
from condetr.data.raw import Source
from condetr.data.tools.entries import Coordinate, Word, parsed, strings
from condetr.data.tools.listed import ListedTool, find_listed
from condetr.data.tools.page import ImageName, Page, PageImage, Shape
from condetr.errors import InputError

_NAME = re.compile(r'"(?:image|imagefilename)"\s*:\s*("(?:[^"\\]|\\.)*")')
_BOX = re.compile(r'"coordinates"\s*:\s*\{')
_BEGIN = re.compile(r"\s*\[\s*\{")


@dataclass(frozen=True, kw_only=True)
class _Image:
    image: Word | None = None
    imagefilename: Word | None = None
    """As older files call it."""
    annotations: list[Any] | None = None
    annotation: list[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class _Coordinates:
    x: Coordinate
    y: Coordinate
    width: Coordinate
    height: Coordinate


@dataclass(frozen=True, kw_only=True)
class _Annotation:
    label: Word
    coordinates: _Coordinates


def find_createml(index: Index) -> Source | None:
    """Recognise CreateML's files."""
    return find_listed(CREATEML, index)


def _is_createml(text: str) -> bool:
    return all((_BEGIN.match(text), _NAME.search(text), _BOX.search(text), '"label"' in text))


def _names(text: str) -> list[ImageName]:
    return [ImageName((name,)) for name in strings(_NAME, text)]


def _read(page: Page) -> Reading[list[PageImage]]:
    content = yield from page.json()
    if not isinstance(content, list):
        raise InputError(f"{page.path} is no list of images")
    images = []
    for number, entry in enumerate(content):
        try:
            image = parsed(_Image, entry)
            name = image.image or image.imagefilename
            if name is None:
                raise InputError("has no image")
        except InputError as error:
            yield page.refused(f"image {number + 1}", error)
            continue
        boxes = [*(image.annotations or ()), *(image.annotation or ())]
        read = yield from page.image(ImageName((name,)), boxes, _shape, what="annotation", where=f"{name}: ")
        images.append(read)
    return images


def _shape(entry: Any) -> Shape | None:  # noqa: ANN401 - JSON holds anything
    annotation = parsed(_Annotation, entry)
    box = annotation.coordinates
    half_width, half_height = box.width / 2, box.height / 2
    corners = (box.x - half_width, box.y - half_height, box.x + half_width, box.y + half_height)
    return Shape(annotation.label, corners)


CREATEML = ListedTool(
    layout="createml", title="CreateML", suffixes=(".json",), is_its_own=_is_createml, names=_names, read=_read
)
