"""A COCO file as values, every faulty entry of it refused by itself."""

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pydantic
from pydantic import Field
from pydantic_core import ErrorDetails

from condetr.data.files import is_utf16, known_kind, read_bytes, read_text
from condetr.data.findings import Fault, Note, Reading, refused
from condetr.errors import InputError

_LARGEST_COORDINATE = 1e9  # pixels; sums and areas of such numbers are still exact enough
_Id = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Coordinate = Annotated[_Number, Field(ge=-_LARGEST_COORDINATE, le=_LARGEST_COORDINATE)]
_Side = Annotated[float, Field(allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


@dataclass(frozen=True, kw_only=True)
class CocoImage:
    """An image as listed."""

    id: _Id
    file_name: _Text
    width: _Side | None = None
    height: _Side | None = None


@dataclass(frozen=True, kw_only=True)
class CocoAnnotation:
    """A box as annotated."""

    image_id: _Id
    category_id: _Id
    bbox: tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate]
    """x, y, width, height."""
    id: _Id | None = None
    iscrowd: bool = False
    area: Any = None
    """As written; see `square_pixels`."""

    @property
    def square_pixels(self) -> float | None:
        """The area, where it is one: it only sorts objects by size, so that a bad one costs no box."""
        is_number = isinstance(self.area, (int, float)) and not isinstance(self.area, bool)
        return float(self.area) if is_number and 0 <= self.area <= _LARGEST_COORDINATE**2 else None


@dataclass(frozen=True, kw_only=True)
class CocoCategory:
    """A class as named."""

    id: _Id
    name: _Text
    supercategory: str | None = None


@dataclass(frozen=True, kw_only=True)
class CocoFile:
    """The three lists that make a COCO file."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]


_ADAPTER = pydantic.TypeAdapter(CocoFile)
_CATEGORY = pydantic.TypeAdapter(CocoCategory)
_SECTIONS = ("images", "annotations", "categories")
_IDS = {"id", "image_id", "category_id"}


class ParsedCoco(NamedTuple):
    """A file's content without its faulty entries, and where in their lists those that are left stood."""

    content: CocoFile
    positions: Mapping[str, Sequence[int]]


def parse_coco(file: Path) -> Reading[ParsedCoco]:
    """Read a file; entries that cannot be understood are refused, and left out.

    Raises InputError where the file is no JSON or holds other things than COCO's lists.
    """
    if is_utf16(read_bytes(file, most=2)):
        yield Note(Fault.OTHER_ENCODING, file.name)
    try:
        return _whole(_ADAPTER.validate_json(_text(file)))
    except pydantic.ValidationError as error:
        _require_lists(error.errors(include_url=False), file=file)
    content = load_coco(file)
    try:
        return _whole(_ADAPTER.validate_python(content))
    except pydantic.ValidationError as error:
        errors = error.errors(include_url=False)
    return (yield from _without_faulty(content, errors, file=file))


def load_coco(file: Path) -> Any:  # noqa: ANN401 - JSON holds anything
    """Return a file's JSON; ids such as 3.0, which pandas writes beside empty cells, are whole numbers in it."""
    try:
        content = json.loads(_text(file))
    except (ValueError, RecursionError) as error:  # what pydantic's parser lets pass, such as a number of 5,000 digits
        raise InputError(f"{file} is not JSON: {error}") from None
    entries = (entry for section in _SECTIONS for entry in content[section] if isinstance(entry, dict))
    for entry in entries:
        for name in _IDS & entry.keys():
            if isinstance(entry[name], float) and entry[name].is_integer():
                entry[name] = int(entry[name])
    return content


def is_category(entry: Any) -> bool:  # noqa: ANN401 - JSON holds anything
    """Tell whether an entry of a file's categories can be understood."""
    try:
        _CATEGORY.validate_python(entry)
    except pydantic.ValidationError:
        return False
    return True


def _text(file: Path) -> bytes:
    content = read_bytes(file)
    if is_utf16(content):
        content = read_text(file).encode()
    kind = known_kind(content)
    if kind is not None:
        raise InputError(f"{file} is not JSON: {kind}")
    return content.removeprefix(b"\xef\xbb\xbf")


def _whole(content: CocoFile) -> ParsedCoco:
    return ParsedCoco(content, {section: range(len(getattr(content, section))) for section in _SECTIONS})


def _require_lists(errors: Sequence[ErrorDetails], *, file: Path) -> None:
    whole = next((error for error in errors if len(error["loc"]) < 2), None)
    if whole is not None:
        raise InputError(f"{file} {_no_coco(whole)}")


def _without_faulty(
    content: Any,  # noqa: ANN401
    errors: Sequence[ErrorDetails],
    *,
    file: Path,
) -> Reading[ParsedCoco]:
    """Refuse every faulty entry, and return what is left where refusing does not end the reading."""
    faulty: dict[str, set[int]] = {section: set() for section in _SECTIONS}
    for error in errors:
        section, index = str(error["loc"][0]), int(error["loc"][1])
        if index not in faulty[section]:
            yield refused(Fault.FAULTY_ENTRY, f"{file} {_complaint(error, content)}")
        faulty[section].add(index)
    positions = {
        section: [index for index in range(len(content[section])) if index not in faulty[section]]
        for section in _SECTIONS
    }
    kept = {section: [content[section][index] for index in positions[section]] for section in _SECTIONS}
    return ParsedCoco(_ADAPTER.validate_python(kept), positions)


def _no_coco(error: ErrorDetails) -> str:
    if error["type"] == "json_invalid":
        return f"is not JSON: {_message(error)}"
    part = f"`{'.'.join(str(name) for name in error['loc'])}`: " if error["loc"] else ""
    return f"is not a COCO file, which holds the lists images, annotations and categories: {part}{_message(error)}"


def _complaint(error: ErrorDetails, content: Any) -> str:  # noqa: ANN401
    if len(error["loc"]) < 3:
        return _no_coco(error)
    section, index, field = error["loc"][:3]
    item: Any = content[section][index]
    kind = {"images": "image", "annotations": "annotation", "categories": "category"}[str(section)]
    where = f"is faulty: {kind} {item.get('id', f'number {index}')} has"
    if field not in item:
        return f"{where} no {field}"
    expected = "expected four finite numbers (x, y, width, height)" if field == "bbox" else _message(error)
    return f"{where} {field} {reprlib.repr(item[field])}: {expected}"


def _message(error: ErrorDetails) -> str:
    return f"{error['msg'][0].lower()}{error['msg'][1:]}"
