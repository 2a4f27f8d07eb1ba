"""Settings on disk: load, override, dump. Knows no setting by name.

A settings class is a frozen, keyword-only dataclass that stands above the module it builds. Here plain data from YAML
or the command line becomes such a class: unknown keys are refused with the nearest known name, pydantic checks types.
Among several classes for one field, the one whose `kind` matches is taken.
"""

import dataclasses
import difflib
import io
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from condetr.errors import InputError

C = TypeVar("C")
T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[C]) -> type[C]:
    """Make `cls` a settings class: a frozen, keyword-only dataclass that refuses unknown keys."""
    cls.__pydantic_config__ = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def from_mapping(cls: type[T], mapping: Mapping[str, Any], *, source: str) -> T:
    """Build settings of class `cls` from plain data; `source` names it in the InputError that bad data raises."""
    _refuse_unknown_keys(cls, mapping, source=source, path="")
    try:
        return pydantic.TypeAdapter(cls).validate_python(mapping)
    except pydantic.ValidationError as error:
        raise InputError(f"{source}: {_first_complaint(error)}") from None


def load(cls: type[T], path: Path) -> T:
    """Read settings of class `cls` from a YAML file."""
    try:
        mapping = YAML(typ="safe", pure=True).load(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} is not valid YAML: {_one_line(error)}") from None
    if not isinstance(mapping, dict):
        raise InputError(f"{path} must hold settings as `name: value` lines, found {type(mapping).__name__}")
    return from_mapping(cls, mapping, source=str(path))


def override(config: T, assignments: Sequence[str]) -> T:
    """Return `config` with `path=value` assignments applied, e.g. `schedule.drop_epoch=40`."""
    mapping = dump(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"a setting is given as path=value, got {assignment!r}")
        _assign(mapping, path.strip(), _parse_value(text, assignment), config)
    return from_mapping(type(config), mapping, source="--set " + " ".join(assignments))


def dump(config: object) -> dict[str, Any]:
    """Return settings as plain data that YAML and JSON can hold."""
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type(config))
    plain: dict[str, Any] = adapter.dump_python(config, mode="json")
    return plain


def to_yaml(config: object) -> str:
    """Return settings as YAML text."""
    yaml = YAML(pure=True)
    yaml.default_flow_style = None
    yaml.width = 120
    stream = io.StringIO()
    yaml.dump(dump(config), stream)
    return stream.getvalue()


def _parse_value(text: str, assignment: str) -> Any:  # noqa: ANN401 - YAML yields anything
    try:
        return YAML(typ="safe", pure=True).load(text) if text.strip() else None
    except (YAMLError, ValueError):
        raise InputError(f"cannot read the value of {assignment!r}") from None


def _assign(mapping: dict[str, Any], path: str, value: Any, config: object) -> None:  # noqa: ANN401
    """Set a dotted path, which must name an existing setting, in nested plain data."""
    *parents, last = path.split(".")
    here: Any = mapping
    for parent in parents:
        _check_known(parent, here, path)
        if here[parent] is None:
            here[parent] = {}
        here = here[parent]
    if not isinstance(here, dict):
        raise InputError(f"unknown setting {path!r}: {'.'.join(parents)} has no settings below it")
    # A switch between kinds (resnet to timm) leaves settings of the old kind behind: start from the new kind's own.
    if last == "kind" and here.get("kind") != value:
        here.clear()
    elif here:
        _check_known(last, here, path)
    here[last] = value


def _check_known(key: str, here: Any, path: str) -> None:  # noqa: ANN401
    if not isinstance(here, dict) or key not in here:
        known = list(here) if isinstance(here, dict) else []
        raise InputError(f"unknown setting {path!r}{_nearest(key, known)}")


def _refuse_unknown_keys(cls: Any, mapping: Mapping[str, Any], *, source: str, path: str) -> None:  # noqa: ANN401
    hints = typing.get_type_hints(cls)
    for key, value in mapping.items():
        if key not in hints:
            raise InputError(f"{source}: unknown setting {path}{key}{_nearest(str(key), list(hints))}")
        member = _settings_class(hints[key], value)
        if member is not None:
            _refuse_unknown_keys(member, value, source=source, path=f"{path}{key}.")


def _settings_class(hint: Any, value: object) -> Any:  # noqa: ANN401
    """Return the settings class that `value` would become under a field's type hint, None for plain values."""
    if not isinstance(value, dict):
        return None
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = [member for member in (typing.get_args(hint) if is_union else (hint,)) if dataclasses.is_dataclass(member)]
    if len(members) > 1:
        members = [member for member in members if _kind(member) == value.get("kind")]
    return members[0] if members else None


def _kind(member: Any) -> object:  # noqa: ANN401
    return next((field.default for field in dataclasses.fields(member) if field.name == "kind"), None)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _first_complaint(error: pydantic.ValidationError) -> str:
    complaint = error.errors()[0]
    place = ".".join(str(part) for part in complaint["loc"])
    return f"{place}: {complaint['msg'][0].lower()}{complaint['msg'][1:]}, got {complaint['input']!r}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
