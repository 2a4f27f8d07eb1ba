"""A file of a labelling tool while it is read, and what it says about images."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from condetr.data.files import is_utf16, known_kind, read_bytes, read_text
from condetr.data.findings import Fault, Note, Reading, refused
from condetr.data.raw import RawBox
from condetr.data.tools.entries import Corners
from condetr.errors import InputError
from condetr.labels import Category, LabelMap


class Shape(NamedTuple):
    """What is drawn on an image."""

    name: str
    """Its class."""
    corners: Corners | None
    """Its bounding box; None where it has none that is read."""
    worth_counting: tuple[Fault, ...] = ()


class PageBox(NamedTuple):
    """A box as a file states it."""

    name: str
    corners: Corners
    number: int
    """Position among the shapes of the image, counted from 0 and over faulty ones too."""
    place: str


class ImageName(NamedTuple):
    """How a file calls an image."""

    spellings: tuple[str, ...]
    """What the image may be called in the data: as exactly as the file says it first."""
    subset: str = ""
    """The tool's own division of the data: a path, one of whose parts may name a split."""


class PageImage(NamedTuple):
    """What a file says about an image."""

    name: ImageName
    boxes: Sequence[PageBox]
    num_shapes: int
    size_hw: tuple[int, int] | None = None


class Page(NamedTuple):
    """A file of a tool."""

    path: Path
    shown: str
    """How notes call it."""

    def text(self) -> Reading[str]:
        """Return the content; raises InputError where it is no text."""
        if is_utf16(read_bytes(self.path, most=2)):
            yield Note(Fault.OTHER_ENCODING, self.shown)
        return read_text(self.path)

    def json(self) -> Reading[Any]:
        """Return the content; raises InputError where it is no JSON."""
        kind = known_kind(read_bytes(self.path, most=64))
        if kind is not None:
            raise InputError(f"{self.path} is not JSON: {kind}")
        try:
            return json.loads((yield from self.text()))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.path} is not JSON: {error}") from None

    def image(
        self,
        name: ImageName,
        entries: Sequence[Any],
        shape: Callable[[Any], Shape | None],
        *,
        what: str,
        where: str = "",
        size_hw: tuple[int, int] | None = None,
    ) -> Reading[PageImage]:
        """Turn the entries of an image into boxes by `shape`, which returns None for what is not drawn.

        Entries that it refuses with InputError are refused, and left out.
        """
        boxes = yield from self._boxes(entries, shape, what=what, where=where)
        return PageImage(name, boxes, num_shapes=len(entries), size_hw=size_hw)

    def refused(self, place: str, error: InputError) -> Note:
        """Return the note of an entry that cannot be used."""
        return refused(Fault.FAULTY_ENTRY, f"{self.shown}: {place} {error}")

    def _boxes(
        self, entries: Sequence[Any], shape: Callable[[Any], Shape | None], *, what: str, where: str
    ) -> Reading[list[PageBox]]:
        boxes = []
        for number, entry in enumerate(entries):
            place = f"{where}{what} {number + 1}"
            try:
                found = shape(entry)
            except InputError as error:
                yield self.refused(place, error)
                continue
            for fault in found.worth_counting if found else ():
                yield Note(fault, f"{self.shown}: {place}")
            if found is not None and found.corners is not None:
                in_image = f"{what} {number + 1} ({found.name})"
                boxes.append(PageBox(found.name, found.corners, number=number, place=in_image))
        return boxes


def head(path: Path, *, most: int = -1) -> str:
    """Return a file's first bytes, or all, as text, whatever they are; none where it cannot be read."""
    try:
        content = read_bytes(path, most=most)
    except InputError:
        return ""
    return content.decode("utf-16" if is_utf16(content) else "utf-8-sig", errors="replace")


def label_map_of(images: Iterable[PageImage], root: Path) -> Reading[LabelMap]:
    """Return the classes of all images, numbered from 1 in the order of the alphabet."""
    names = sorted({box.name for image in images for box in image.boxes})
    if not names:
        yield refused(Fault.NOTHING, f"the annotations in {root} hold no box")
    categories = tuple(Category(number, name) for number, name in enumerate(names, start=1))
    return LabelMap(categories, ids_are_counted=True)


def raw_boxes(pages: Iterable[tuple[str, PageImage]], ids: dict[str, int]) -> list[RawBox]:
    """Return the boxes that files, each with its name, state of one image; numbers go on from file to file."""
    pages = list(pages)
    boxes, before = [], 0
    for file, image in pages:
        for box in image.boxes:
            place = box.place if len(pages) == 1 else f"{file}: {box.place}"
            boxes.append(RawBox(box.corners, ids[box.name], place=place, number=before + box.number))
        before += image.num_shapes
    return boxes
