"""CVAT's own XML, for images and for videos.

A turned box is turned about its centre. Of a video's track, the frames in which the object is outside are left out.
"""

import re
from dataclasses import dataclass
from html import unescape
from typing import Annotated
from xml.etree.ElementTree import Element

from pydantic import Field

from condetr.data.findings import Fault, Reading
from condetr.data.index import Index, folder_of, join
from condetr.data.layouts.voc import read_xml
from condetr.data.raw import Source
from condetr.data.tools.entries import (
    Corners,
    Point,
    TextCoordinate,
    Word,
    bounding_box,
    box_of_ellipse,
    parsed,
    parsed_texts,
    size_hw,
    turned,
)
from condetr.data.tools.listed import ListedTool, find_listed
from condetr.data.tools.page import ImageName, Page, PageImage, Shape
from condetr.errors import InputError

_ROOT = re.compile(r"<annotations[\s>]")
_CONTENTS = re.compile(r"<(meta|image|track)[\s>]")
_IMAGE = re.compile(r"""<image\s(?:[^<>"']|"[^"<]*"|'[^'<]*')*>""")
_ATTRIBUTE = re.compile(r"""\s(name|subset)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_FRAME = re.compile(r"""\sframe\s*=\s*["'](\d{1,9})["']""")
_FRAME_ENDINGS = ("jpg", "jpeg", "JPG", "png", "PNG")  # the last one is that of exports
_LINES = ("points", "polyline", "cuboid", "skeleton")


@dataclass(frozen=True, kw_only=True)
class _Box:
    label: Word
    xtl: TextCoordinate
    ytl: TextCoordinate
    xbr: TextCoordinate
    ybr: TextCoordinate
    rotation: TextCoordinate = 0.0


@dataclass(frozen=True, kw_only=True)
class _Outline:
    label: Word
    points: str


@dataclass(frozen=True, kw_only=True)
class _Points:
    points: Annotated[list[Point], Field(min_length=2)]


@dataclass(frozen=True, kw_only=True)
class _Ellipse:
    label: Word
    cx: TextCoordinate
    cy: TextCoordinate
    rx: TextCoordinate
    ry: TextCoordinate
    rotation: TextCoordinate = 0.0


@dataclass(frozen=True, kw_only=True)
class _Mask:
    label: Word
    left: TextCoordinate
    top: TextCoordinate
    width: TextCoordinate
    height: TextCoordinate


@dataclass(frozen=True, kw_only=True)
class _Image:
    name: Word
    subset: str = ""
    width: str = ""
    height: str = ""


@dataclass(frozen=True, kw_only=True)
class _Frame:
    frame: Annotated[int, Field(ge=0, lt=10**9)]


def find_cvat(index: Index) -> Source | None:
    """Recognise CVAT's files."""
    return find_listed(CVAT, index)


def _is_cvat(text: str) -> bool:
    root = _ROOT.search(text)
    return root is not None and _CONTENTS.search(text, root.end()) is not None


def _names(text: str) -> list[ImageName]:
    names = []
    for tag in _IMAGE.findall(text):
        attributes = {key: unescape(one or other) for key, one, other in _ATTRIBUTE.findall(tag)}
        if attributes.get("name"):
            names.append(_image_name(attributes["name"], attributes.get("subset", "")))
    frames = {int(number) for number in _FRAME.findall(text)}
    return names + [_frame_name(number) for number in sorted(frames)]


def _image_name(name: str, subset: str) -> ImageName:
    """Return the name of an image, which projects keep in a folder for each subset."""
    name = name.strip()
    spellings = (name, join(subset, name)) if subset else (name,)
    return ImageName(spellings[::-1], subset=join(subset, folder_of(name)))


def _frame_name(number: int) -> ImageName:
    return ImageName(tuple(f"frame_{number:06d}.{ending}" for ending in _FRAME_ENDINGS))


def _read(page: Page) -> Reading[list[PageImage]]:
    root = read_xml(page.path)
    if root.tag != "annotations":
        raise InputError(f"{page.path} is no file of CVAT, as it holds <{root.tag[:40]}>")
    images = []
    for number, element in enumerate(root.iter("image")):
        try:
            image = parsed_texts(_Image, dict(element.attrib))
        except InputError as error:
            yield page.refused(f"image {number + 1}", error)
            continue
        name = _image_name(image.name, image.subset)
        size = size_hw(_side(image.height), _side(image.width))
        where = f"{image.name}: "
        images.append((yield from page.image(name, list(element), _shape, what="shape", where=where, size_hw=size)))
    return images + (yield from _frames(root, page))


def _frames(root: Element, page: Page) -> Reading[list[PageImage]]:
    """Return the frames of a video in which an object is."""
    frames: dict[int, list[Element]] = {}
    for number, track in enumerate(root.iter("track")):
        for shape in track:
            try:
                frame = parsed_texts(_Frame, dict(shape.attrib)).frame
            except InputError as error:
                yield page.refused(f"track {number + 1}", error)
                continue
            shape.set("label", track.get("label", ""))
            if shape.get("outside") != "1":
                frames.setdefault(frame, []).append(shape)
    images = []
    for frame, shapes in sorted(frames.items()):
        where = f"frame {frame}: "
        images.append((yield from page.image(_frame_name(frame), shapes, _shape, what="shape", where=where)))
    return images


def _shape(element: Element) -> Shape | None:
    kind, texts = element.tag, dict(element.attrib)
    if kind == "box":
        box = parsed_texts(_Box, texts)
        centre = ((box.xtl + box.xbr) / 2, (box.ytl + box.ybr) / 2)
        corners = turned((box.xtl, box.ytl, box.xbr, box.ybr), box.rotation, about=centre)
        return Shape(box.label, corners, (Fault.OUTLINE,) if box.rotation else ())
    if kind == "polygon":
        outline = parsed_texts(_Outline, texts)
        return Shape(outline.label, _of_points(outline.points), (Fault.OUTLINE,))
    if kind == "ellipse":
        ellipse = parsed_texts(_Ellipse, texts)
        corners = box_of_ellipse((ellipse.cx, ellipse.cy), (ellipse.rx, ellipse.ry), degrees=ellipse.rotation)
        return Shape(ellipse.label, corners, (Fault.OUTLINE,))
    if kind == "mask":
        mask = parsed_texts(_Mask, texts)
        return Shape(mask.label, (mask.left, mask.top, mask.left + mask.width, mask.top + mask.height))
    return Shape("", None, (Fault.NO_BOX,)) if kind in _LINES else None


def _of_points(text: str) -> Corners:
    try:
        points = [tuple(map(float, point.split(","))) for point in text.split(";")]
        return bounding_box(parsed(_Points, {"points": points}).points)
    except ValueError:
        raise InputError(f"has points {text[:40]!r}, expected numbers such as 1.5,2;3,4") from None


def _side(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0


CVAT = ListedTool(layout="cvat", title="CVAT", suffixes=(".xml",), is_its_own=_is_cvat, names=_names, read=_read)
