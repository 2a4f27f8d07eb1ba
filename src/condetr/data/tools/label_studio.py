"""Label Studio's JSON and JSON-MIN exports.

Coordinates are percent of the image; boxes are turned clockwise about their top left corner. Images that were uploaded
have eight hexadecimal digits before their names, and names without blanks and brackets.
"""

import ntpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field

from condetr.data.findings import Fault, Note, Reading
from condetr.data.index import Index, is_image
from condetr.data.raw import Source
from condetr.data.tools.entries import (
    Coordinate,
    Corners,
    Word,
    bounding_box,
    box_of_ellipse,
    parsed,
    size_hw,
    strings,
    turned,
    word,
)
from condetr.data.tools.listed import ListedTool, find_listed
from condetr.data.tools.page import ImageName, Page, PageImage, Shape
from condetr.errors import InputError

_BEGIN = re.compile(r"\s*\[\s*\{")
_IMAGE = re.compile(r'"image"\s*:\s*("(?:[^"\\]|\\.)*")')
_IMAGE_FILE = re.compile(r':\s*("[^"\s]*\.(?:jpe?g|png|bmp|webp|tiff?|gif)(?:\?[^"]*)?")', re.IGNORECASE)
_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_REWRITTEN = re.compile(r"[^-\w.]")
_AREAS = ("rectangle", "polygon", "ellipse")
_MASKS = ("brush", "magicwand", "bitmask")
_LINES = ("keypoint", "vector", "videorectangle")
_KINDS = tuple(f"{kind}labels" for kind in (*_AREAS, *_MASKS, *_LINES))


@dataclass(frozen=True, kw_only=True)
class _Annotation:
    result: list[Any]
    was_cancelled: bool | None = False
    ground_truth: bool | None = False
    updated_at: Any = None


@dataclass(frozen=True, kw_only=True)
class _Task:
    data: dict[str, Any]
    annotations: list[Any] | None = None
    completions: list[Any] | None = None
    """As older versions call annotations."""


@dataclass(frozen=True, kw_only=True)
class _Result:
    type: str
    value: dict[str, Any]
    original_width: Annotated[Coordinate, Field(gt=0)]
    original_height: Annotated[Coordinate, Field(gt=0)]
    image_rotation: Coordinate | None = None
    id: Any = None


@dataclass(frozen=True, kw_only=True)
class _Rectangle:
    x: Coordinate
    y: Coordinate
    width: Coordinate
    height: Coordinate
    rotation: Coordinate | None = None


@dataclass(frozen=True, kw_only=True)
class _Ellipse:
    x: Coordinate
    y: Coordinate
    radiusX: Coordinate  # noqa: N815 - as the tool spells it
    radiusY: Coordinate  # noqa: N815
    rotation: Coordinate | None = None


@dataclass(frozen=True, kw_only=True)
class _Polygon:
    points: Annotated[list[tuple[Coordinate, Coordinate]], Field(min_length=2)]


@dataclass(frozen=True, kw_only=True)
class _Labels:
    labels: list[Word]


class _Reference(NamedTuple):
    """An image as a task names it."""

    name: ImageName
    shown: str


def find_label_studio(index: Index) -> Source | None:
    """Recognise Label Studio's exports."""
    return find_listed(LABEL_STUDIO, index)


def _is_label_studio(text: str) -> bool:
    if not _BEGIN.match(text) or '"original_width"' not in text:
        return False
    return '"result"' in text or '"annotator"' in text or '"annotation_id"' in text


def _names(text: str) -> list[ImageName]:
    names = []
    for reference in strings(_IMAGE, text) or strings(_IMAGE_FILE, text):
        try:
            names.append(_reference({"image": reference}).name)
        except InputError:
            continue
    return names


def _read(page: Page) -> Reading[list[PageImage]]:
    content = yield from page.json()
    if not isinstance(content, list):
        raise InputError(f"{page.path} is no list of tasks")
    images: list[PageImage] = []
    rows: set[ImageName] = set()
    for number, entry in enumerate(content):
        is_task = _is_task(entry)
        try:
            reference = _reference(entry["data"] if is_task else entry)
            results = (yield from _results_of_task(entry, reference, page)) if is_task else _results_of_row(entry)
        except InputError as error:
            yield page.refused(f"task {number + 1}", error)
            continue
        if results is None:
            yield Note(Fault.NOT_DONE, f"{page.shown}: {reference.shown}")
        elif not is_task and reference.name in rows:  # a row for each annotator
            yield Note(Fault.OTHER_ANNOTATOR, f"{page.shown}: {reference.shown}")
        else:
            images.append((yield from _image(reference, results, page)))
            rows |= set() if is_task else {reference.name}
    return images


def _is_task(entry: Any) -> bool:  # noqa: ANN401 - JSON holds anything
    return isinstance(entry, dict) and isinstance(entry.get("data"), dict)


def _results_of_task(entry: Any, reference: _Reference, page: Page) -> Reading[list[Any] | None]:  # noqa: ANN401
    """Return the results of one annotation: the newest that is called true, or the first; None where there is none."""
    task = parsed(_Task, entry)
    made = [parsed(_Annotation, each) for each in (*(task.annotations or ()), *(task.completions or ()))]
    made = [each for each in made if not each.was_cancelled]
    if not made:
        return None
    if len(made) > 1:
        yield Note(Fault.OTHER_ANNOTATOR, f"{page.shown}: {reference.shown}")
    true = [each for each in made if each.ground_truth]
    return max(true, key=lambda each: str(each.updated_at)).result if true else made[0].result


def _results_of_row(row: Any) -> list[Any]:  # noqa: ANN401 - JSON holds anything
    """Return what a row of JSON-MIN holds, as results of a task."""
    found = (item for some in row.values() if isinstance(some, list) for item in some if isinstance(item, dict))
    return [
        {**{key: item.get(key) for key in ("original_width", "original_height")}, "type": kind, "value": item}
        for item in found
        if (kind := next((key for key in item if key in _KINDS), "rectangle" if "width" in item else None)) is not None
    ]


def _reference(data: Any) -> _Reference:  # noqa: ANN401 - JSON holds anything
    """Return the image that a task names by `image`, or by what else looks like an image file."""
    if not isinstance(data, dict):
        raise InputError("is no object with an image")
    texts = [text for text in data.values() if isinstance(text, str)]
    found = [text for text in (data.get("image"), *texts) if isinstance(text, str) and _is_image_file(text)]
    reference = data["image"] if isinstance(data.get("image"), str) else next(iter(found), None)
    if not reference:
        raise InputError("names no image")
    reference = word(reference)
    if reference.startswith("data:"):
        raise InputError("holds the image itself, not its name")
    path = _path(reference)
    last = ntpath.basename(path)
    if not last:
        raise InputError(f"names no image, but {reference[:40]!r}")
    spellings = (last, _PREFIX.sub("", last) or last) if "/upload/" in reference else (path, last)
    return _Reference(ImageName(spellings), shown=reference[:200])


def _is_image_file(reference: str) -> bool:
    return not reference.startswith("data:") and is_image(_path(reference))


def _path(reference: str) -> str:
    """Return the path in an address; that of local files stands behind `?d=`."""
    try:
        address = urlsplit(reference)
        local = parse_qs(address.query).get("d", [""])[0]
    except ValueError:
        return reference
    return (local or unquote(address.path)).replace("\\", "/").lstrip("/")


def _image(reference: _Reference, results: Sequence[Any], page: Page) -> Reading[PageImage]:
    labels = dict(_separate_labels(results))
    image = yield from page.image(
        reference.name,
        results,
        lambda entry: _shape(entry, labels),
        what="result",
        where=f"{reference.shown}: ",
    )
    sizes = ((each.get("original_height"), each.get("original_width")) for each in results if isinstance(each, dict))
    return image._replace(size_hw=next((size for each in sizes if (size := size_hw(*each)) is not None), None))


def _separate_labels(results: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the labels of regions that are drawn with one tool and labelled with another: results of the same id."""
    for each in results:
        if isinstance(each, dict) and each.get("type") == "labels" and isinstance(each.get("value"), dict):
            yield str(each.get("id")), each["value"].get("labels")


def _shape(entry: Any, separate_labels: dict[str, Any]) -> Shape | None:  # noqa: ANN401 - JSON holds anything
    if isinstance(entry, dict) and isinstance(entry.get("type"), str):
        kind = entry["type"].removesuffix("labels")
        if kind in _MASKS or kind in _LINES:
            return Shape("", None, (Fault.UNREAD_MASK if kind in _MASKS else Fault.NO_BOX,))
        if kind not in _AREAS:
            return None
    result = parsed(_Result, entry)
    kind = result.type.removesuffix("labels")
    if result.image_rotation:
        raise InputError(
            f"is drawn on the image turned by {result.image_rotation:g} degrees, which condetr does not read"
        )
    found = result.value.get(f"{kind}labels") or separate_labels.get(str(result.id)) or []
    labels = parsed(_Labels, {"labels": found}).labels
    if not labels:
        raise InputError("has no label")
    corners = _corners(kind, result)
    is_upright = kind == "rectangle" and not result.value.get("rotation")
    told = (Fault.OUTLINE,) * (not is_upright) + (Fault.SEVERAL_LABELS,) * (len(labels) > 1)
    return Shape(labels[0], corners, told)


def _corners(kind: str, result: _Result) -> Corners:
    across, down = result.original_width / 100, result.original_height / 100
    if kind == "polygon":
        return bounding_box((x * across, y * down) for x, y in parsed(_Polygon, result.value).points)
    if kind == "ellipse":
        ellipse = parsed(_Ellipse, result.value)
        centre = (ellipse.x * across, ellipse.y * down)
        radii = (ellipse.radiusX * across, ellipse.radiusY * down)
        return box_of_ellipse(centre, radii, degrees=ellipse.rotation or 0.0)
    box = parsed(_Rectangle, result.value)
    x, y = box.x * across, box.y * down
    corners = (x, y, x + box.width * across, y + box.height * down)
    return turned(corners, box.rotation or 0.0, about=(x, y))


def _respelt(name: str) -> str:
    """Return what an upload makes of a file's name."""
    return _REWRITTEN.sub("", name.strip().replace(" ", "_"))


LABEL_STUDIO = ListedTool(
    layout="label-studio",
    title="Label Studio",
    suffixes=(".json",),
    is_its_own=_is_label_studio,
    names=_names,
    read=_read,
    respelt=_respelt,
)
