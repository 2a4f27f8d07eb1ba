"""Files that describe YOLO data: a YAML file with `names` and splits, or Darknet's `obj.data`."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pydantic

from condetr.config import read_yaml
from condetr.data.files import read_bytes, read_lines
from condetr.errors import InputError

YAML = (".yaml", ".yml")
DARKNET = ".data"
_USUAL_NAMES = ("data", "dataset")
_SPLIT_KEYS = ("train", "val", "test")
_Name = Annotated[str, pydantic.Field(coerce_numbers_to_str=True)]
_LEADING = ("", ".", "..", "content", "kaggle", "input", "working")


@dataclass(frozen=True, kw_only=True)
class _DataFile:
    names: list[_Name] | dict[int, _Name] | str | None = None
    nc: int | None = None
    path: str | None = None
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    valid: str | list[str] | None = None
    test: str | list[str] | None = None
    kpt_shape: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None = None


class Splits(NamedTuple):
    """Where the images of each split are."""

    places: Mapping[str, Sequence[Path]]
    missing: Mapping[str, str]
    """What is wrong with splits that cannot be read, and may be left alone."""
    elsewhere: Sequence[str] = ()
    """Paths that were found by their last folders alone."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a file says about data."""

    file: Path
    root: Path
    names: Mapping[int, str] | None
    """None where it gives none."""
    num_classes: int | None
    """As the file counts them."""
    splits: Splits
    num_keypoint_numbers: int


def description_file(folder: Path, names: Sequence[str]) -> Path | None:
    """Return which of a folder's files describes data; files of other names count where no usual one does."""
    files = [folder / name for name in names if name.lower().endswith((*YAML, DARKNET))]
    usual = [file for file in files if file.stem in _USUAL_NAMES and file.suffix in YAML and _describes_data(file)]
    found = usual or [file for file in files if file.stem not in _USUAL_NAMES and _seems_to_describe_data(file)]
    if len(found) > 1:
        several = ", ".join(file.name for file in found)
        raise InputError(f"{folder} has several files that describe YOLO data: give the one to use of {several}")
    return found[0] if found else None


def read_description(file: Path) -> Description:
    """Read such a file and find the places that it names; raises InputError where they are not there."""
    try:
        data = pydantic.TypeAdapter(_DataFile).validate_python(_load(file))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = first["loc"][0] if first["loc"] else "the whole"
        raise InputError(f"{file} does not describe YOLO data: {place}: {first['msg'].lower()}") from None
    root = file.parent / (data.path or "").replace("\\", "/")
    is_elsewhere = not root.is_dir()
    if is_elsewhere:  # of the machine on which it was written
        root = file.parent
    try:
        splits = _named_splits(data, root=root, file=file)
    except InputError as error:
        if is_elsewhere:
            raise InputError(f"{file} has its data in {data.path}, which is no folder; and {error}") from None
        raise
    if is_elsewhere:
        splits = splits._replace(elsewhere=(f"path: {data.path}", *splits.elsewhere))
    return Description(
        file=file,
        root=root,
        names=_class_names(data, file, root),
        num_classes=data.nc,
        splits=splits,
        num_keypoint_numbers=math.prod(data.kpt_shape) if data.kpt_shape else 0,
    )


def read_names(file: Path) -> dict[int, str]:
    """Return the class names of a text file, a line each; an empty line in between counts, and is refused later."""
    return dict(enumerate("\n".join(read_lines(file)).rstrip().split("\n")))


def _class_names(data: _DataFile, file: Path, root: Path) -> Mapping[int, str] | None:
    if isinstance(data.names, str):
        found = _found(data.names, root=root, file=file)
        if found is None or not found[0].is_file():
            raise InputError(f"{file} has its names in {data.names!r}, which is no file: correct it")
        return read_names(found[0])
    return dict(enumerate(data.names)) if isinstance(data.names, list) else data.names


def _named_splits(data: _DataFile, *, root: Path, file: Path) -> Splits:
    """Find the places that a file names; a test split may be missing, as training needs none."""
    places: dict[str, list[Path]] = {}
    missing: dict[str, str] = {}
    elsewhere: list[str] = []
    for split, given in {"train": data.train, "val": data.val or data.valid, "test": data.test}.items():
        entries = [given] if isinstance(given, str) else given or []
        try:
            found = [_place(entry, root=root, split=split, file=file, elsewhere=elsewhere) for entry in entries]
        except InputError as error:
            if split != "test" or not places:
                raise
            missing[split] = str(error)
        else:
            places |= {split: found} if found else {}
    if not places:
        raise InputError(f"{file} names none of the splits train, val and test")
    return Splits(places, missing, elsewhere)


def _place(entry: str, *, root: Path, split: str, file: Path, elsewhere: list[str]) -> Path:
    """Return the folder or list that an entry means."""
    found = _found(entry, root=root, file=file)
    if found is None:
        wrong = f"{split} is {entry!r}, which is neither a folder nor a list of images"
        raise InputError(f"{file}: {wrong}: correct it, or add {_usual(entry, root)}")
    path, is_as_written = found
    if not is_as_written:
        elsewhere.append(f"{split}: {entry}")
    return Path(os.path.normpath(path))


def _found(entry: str, *, root: Path, file: Path) -> tuple[Path, bool] | None:
    """Return the path that an entry means, and whether it is there as written."""
    plain = entry.replace("\\", "/")
    for candidate in (root / plain, file.parent / plain, _usual(plain, root)):
        if _exists(candidate):
            return candidate, True
    parts = [part for part in plain.split("/") if part not in _LEADING]
    for first in range(1, len(parts)):
        # What is cut off must not tell splits apart.
        if any(word in part.lower() for part in parts[:first] for word in (*_SPLIT_KEYS, "valid")):
            break
        for folder in (root, file.parent):
            if _exists(folder.joinpath(*parts[first:])):
                return folder.joinpath(*parts[first:]), False
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _usual(entry: str, root: Path) -> Path:
    return root / entry.removeprefix("../")  # Roboflow writes ../train/images for what is in train/images


def _seems_to_describe_data(file: Path) -> bool:
    """Tell whether a file describes data; other tools' files need not be YAML that can be read."""
    try:
        return _describes_data(file)
    except InputError:
        return False


def _describes_data(file: Path) -> bool:
    content = _load(file)
    if not isinstance(content, dict) or not any(split in content for split in _SPLIT_KEYS):
        return False
    return "names" in content or "nc" in content


def _load(file: Path) -> Any:  # noqa: ANN401 - YAML yields anything
    if file.suffix.lower() == DARKNET:
        return _load_darknet(file)
    try:
        return read_yaml(read_bytes(file))
    except ValueError as error:
        raise InputError(f"{file} is not valid YAML: {error}") from None


def _load_darknet(file: Path) -> dict[str, str]:
    """Read lines such as `train = data/train.txt`."""
    pairs = (line.partition("=") for line in read_lines(file) if not line.startswith("#"))
    content = {key.strip(): value.strip() for key, equals, value in pairs if equals and value.strip()}
    told = {"train": "train", "valid": "val", "val": "val", "test": "test", "names": "names"}
    return {told[key]: value for key, value in content.items() if key in told}
