"""Settings on disk: load, override, dump. Knows no setting by name.

A settings class is a frozen, keyword-only dataclass that stands above the module it builds. Here plain data from YAML
or the command line becomes such a class: unknown keys are refused with the nearest known path, pydantic checks types.
Among several classes for one field, the one whose `kind` matches is taken.
"""

import dataclasses
import difflib
import functools
import io
import reprlib
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from condetr.errors import InputError

_LONGEST_YAML = 2**20  # bytes; the parser reads about 100,000 a second
_DEEPEST = 9  # depth of a shown path; YAML's aliases may form a cycle

_COMMENT_WIDTH = 100

C = TypeVar("C")
T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[C]) -> type[C]:
    """Make `cls` a settings class: a frozen, keyword-only dataclass that refuses unknown keys."""
    cls.__pydantic_config__ = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def from_mapping(cls: type[T], mapping: Mapping[Any, Any], *, source: str) -> T:
    """Build settings of class `cls` from plain data; `source` names it in the InputError that bad data raises."""
    try:
        built: T = _build(cls, mapping, path="", known=_paths(cls))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return built


def load(cls: type[T], path: Path) -> T:
    """Read settings of class `cls` from a YAML file."""
    try:
        mapping = read_yaml(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read the settings file {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(mapping, dict):
        found = "nothing" if mapping is None else type(mapping).__name__
        raise InputError(f"{path} must hold settings as `name: value` lines, found {found}")
    return from_mapping(cls, mapping, source=str(path))


def override(config: T, assignments: Sequence[str]) -> T:
    """Return `config` with `path=value` assignments applied, e.g. `schedule.drop_epoch=40`; values are read as YAML.

    Of two assignments to one path, the later wins. Another `kind` starts from that kind's defaults, at any position
    among the assignments, unless it has the same settings as the old one.
    """
    return _assigned(config, dict(_parse_assignment(assignment) for assignment in assignments))


def assign(config: T, values: Mapping[str, Any], *, source: str) -> T:
    """Return `config` with the values, plain data by dotted path, taken as they are; `source` names them in errors."""
    try:
        return _assigned(config, values)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def dump(config: object) -> dict[str, Any]:
    """Return settings as plain data that YAML and JSON can hold."""
    plain: dict[str, Any] = _adapter(type(config)).dump_python(config, mode="json")  # type: ignore[arg-type]
    return plain


def to_yaml(config: object) -> str:
    """Return settings as YAML text."""
    return yaml_text(dump(config))


def explained_yaml(config: object) -> str:
    """Return settings as YAML text, each below its docstring and the values that it may have."""
    yaml = YAML()
    yaml.width = 120
    yaml.representer.add_representer(
        type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    stream = io.StringIO()
    yaml.dump(_explained(config, indent=0), stream)
    return stream.getvalue()


def _explained(config: object, *, indent: int) -> CommentedMap:
    schema = _adapter(type(config)).json_schema()  # type: ignore[arg-type]
    plain, lines = dump(config), CommentedMap()
    for name, value in plain.items():
        part = getattr(config, name)
        nested = dataclasses.is_dataclass(part)
        lines[name] = _explained(part, indent=indent + 2) if nested else _in_one_line(value)
        comment = _explanation(schema["properties"][name], part=part if nested else None)
        if comment:
            lines.yaml_set_comment_before_after_key(name, before=comment, indent=indent)
    return lines


def _explanation(schema: Mapping[str, Any], *, part: object) -> str:
    """Return a setting's docstring and, if they are few, its possible values; for a part, the part's own docstring."""
    if part is not None:
        return (type(part).__doc__ or "").splitlines()[0]
    values = [value for each in (schema, *schema.get("anyOf", ())) for value in each.get("enum", ())]
    choice = f"One of {', '.join(map(str, values))}." if values else ""
    text = _one_line(" ".join((schema.get("description", ""), choice)))
    return "\n".join(textwrap.wrap(text, width=_COMMENT_WIDTH))


def _in_one_line(value: Any) -> Any:  # noqa: ANN401 - what YAML can hold
    if not isinstance(value, list):
        return value
    line = CommentedSeq(value)
    line.fa.set_flow_style()
    return line


def yaml_text(plain: Mapping[str, Any]) -> str:
    """Return plain data as YAML text, its keys in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 120
    stream = io.StringIO()
    yaml.dump(dict(plain), stream)
    return stream.getvalue()


def read_yaml(text: bytes) -> Any:  # noqa: ANN401 - YAML yields anything
    """Read YAML 1.2 without tags that make objects; a ValueError of one line says what is wrong and where."""
    if len(text) > _LONGEST_YAML:
        raise ValueError(f"it has {len(text):,} bytes, settings have at most {_LONGEST_YAML:,}")
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        place = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{_one_line(error.problem or error.context or 'malformed')}{place}") from None
    except YAMLError as error:
        raise ValueError(_one_line(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (LookupError, TypeError, AttributeError, OverflowError, AssertionError) as error:
        # Errors that the library lets through for values that do not match their tag or only look like another type.
        raise ValueError(_one_line(error)) from None


@functools.cache
def _adapter(cls: Any) -> Any:  # noqa: ANN401 - beartype refuses pydantic's generic class
    return pydantic.TypeAdapter(cls)


def _assigned(config: T, values: Mapping[str, Any]) -> T:
    mapping = dump(config)
    paths = [path.split(".") for path in values]
    for path in sorted(paths, key=lambda path: (path[-1] != "kind", len(path))):
        value = values[".".join(path)]
        _assign(mapping, path, value, keeps=path[-1] == "kind" and _is_kind_of(config, path, value))
    built: T = _build(type(config), mapping, path="", known=_paths(type(config)))
    return built


def _parse_assignment(assignment: str) -> tuple[str, Any]:
    path, equals, text = assignment.partition("=")
    if not equals:
        raise InputError(f"a setting is given as path=value, got {assignment!r}")
    try:
        return path.strip(), read_yaml(text.encode())
    except ValueError as error:
        raise InputError(f"cannot read the value of {assignment!r}: {error}") from None


def _is_kind_of(config: object, path: Sequence[str], value: object) -> bool:
    """Tell whether the settings at a path, whose last part is `kind`, may have this kind too."""
    here = functools.reduce(lambda part, name: getattr(part, name, None), path[:-1], config)
    return value in typing.get_args(typing.get_type_hints(type(here)).get("kind"))


def _assign(mapping: dict[str, Any], path: list[str], value: Any, *, keeps: bool) -> None:  # noqa: ANN401
    """Set a value in nested plain data; whether the setting exists is checked when settings are built from it.

    Another kind removes the settings of the old one, unless it `keeps` them.
    """
    *parents, last = path
    here = mapping
    for depth, parent in enumerate(parents, start=1):
        if here.get(parent) is None:
            here[parent] = {}
        here = here[parent]
        if not isinstance(here, dict):
            raise InputError(f"unknown setting {'.'.join(path)!r}: {'.'.join(path[:depth])} has no settings below it")
    # Settings of the old kind (for example resnet) do not exist in the new one (timm).
    if last == "kind" and here.get("kind") != value and not keeps:
        here.clear()
    here[last] = value


def _build(cls: Any, mapping: Mapping[Any, Any], *, path: str, known: Sequence[str]) -> Any:  # noqa: ANN401
    """Build nested settings from the inside out, so that an error names the whole path and the right class.

    `known` are the paths of all settings.
    """
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in hints:
            raise InputError(_unknown(_first_path(key, value), path=path, here=list(hints), known=known))
        classes = _settings_classes(hints[key])
        if not classes or value is None:
            values[key] = value
            continue
        place = f"{path}{key}"
        if not isinstance(value, Mapping):
            raise InputError(f"{place} has settings of its own below it, got {reprlib.repr(value)}")
        member = _of_kind(classes, value, default=_default(cls, key), place=place)
        values[key] = _build(member, value, path=f"{place}.", known=known)
    try:
        return _adapter(cls).validate_python(values)
    except pydantic.ValidationError as error:
        raise InputError(_first_complaint(error, path=path)) from None


def _paths(cls: Any, *, prefix: str = "") -> list[str]:  # noqa: ANN401
    """Return the path of every setting of all kinds."""
    paths = []
    for name, hint in typing.get_type_hints(cls).items():
        paths.append(f"{prefix}{name}")
        for member in _settings_classes(hint):
            paths += _paths(member, prefix=f"{prefix}{name}.")
    return list(dict.fromkeys(paths))


def _settings_classes(hint: Any) -> list[Any]:  # noqa: ANN401
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [member for member in (typing.get_args(hint) if is_union else (hint,)) if dataclasses.is_dataclass(member)]


def _of_kind(classes: list[Any], value: Mapping[Any, Any], *, default: object, place: str) -> Any:  # noqa: ANN401
    """Return the class whose `kind` the value names; without one, the class of the field's default."""
    if len(classes) == 1:
        return classes[0]
    by_kind = {_default(member, "kind"): member for member in classes}
    kind = value.get("kind", getattr(default, "kind", None))
    if not isinstance(kind, str) or kind not in by_kind:
        raise InputError(f"{place}.kind must be one of {', '.join(map(str, by_kind))}, got {reprlib.repr(kind)}")
    return by_kind[kind]


def _default(cls: Any, name: str) -> object:  # noqa: ANN401
    field = next((field for field in dataclasses.fields(cls) if field.name == name), None)
    if field is None:
        return None
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _first_path(key: object, value: object) -> str:
    """Return the first path in plain data."""
    path = [str(key)]
    while isinstance(value, Mapping) and value and len(path) < _DEEPEST:
        key, value = next(iter(value.items()))
        path.append(str(key))
    return ".".join(path)


def _unknown(given: str, *, path: str, here: Sequence[str], known: Sequence[str]) -> str:
    """Raise an error for an unknown setting below `path`, which has the settings `here`, and suggest similar ones."""
    first, last = given.split(".")[0], _last(given)
    elsewhere = [] if path + given in known else known  # the path is right, but belongs to another kind
    meant = (
        _called([last], elsewhere)
        or [path + close for close in _close(first, here)]
        or _called(_close(last, [_last(other) for other in elsewhere]), elsewhere)
    )
    hint = f"did you mean {' or '.join(map(repr, meant))}?" if meant else f"known here: {', '.join(here)}"
    return f"unknown setting {path}{given}; {hint}"


def _called(names: Sequence[str], paths: Sequence[str]) -> list[str]:
    return [path for path in paths if _last(path) in names]


def _last(path: str) -> str:
    return path.split(".")[-1]


def _close(name: str, names: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name, names, n=1, cutoff=0.6)


def _first_complaint(error: pydantic.ValidationError, *, path: str) -> str:
    complaint = error.errors()[0]
    place = path + ".".join(str(part) for part in complaint["loc"])
    if complaint["type"] == "value_error":  # raised by the settings class itself, in its own words
        return f"{place.rstrip('.')}: {complaint['ctx']['error']}".removeprefix(": ")
    if complaint["type"] == "missing":
        return f"{place} must be given"
    message = complaint["msg"]
    return f"{place}: {message[0].lower()}{message[1:]}, got {reprlib.repr(complaint['input'])}"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
