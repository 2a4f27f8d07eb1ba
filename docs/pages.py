"""Pages of the site that are made from something else: the start from README.md, the settings from their docstrings."""

import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Any

import pydantic
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from condetr.engine.config import TrainConfig

ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages."""
    for name, text in {"index.md": start_page(), "settings.md": settings_page()}.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401
    """Turn links to files outside the site into their text."""
    return re.sub(r"\[([^\]]*)\]\((?:\.\./|benchmarks/|LICENSE|CONTRIBUTING)[^)]*\)", r"\1", markdown)


def start_page() -> str:
    """Return README.md with its links as seen from this folder."""
    return (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")


def settings_page() -> str:
    """Return a table of the settings of each class that TrainConfig reaches."""
    parts = [f"## {place or 'Training'}\n\n{_table(cls, place=place)}" for place, cls in _classes(TrainConfig)]
    introduction = (
        "# Every setting\n\nA setting is changed by its path, as in `--set optimizer.lr=2e-4`. Where a part exists in "
        "several kinds, `--set detector.kind=detr` starts from the defaults of that kind. `condetr config show RECIPE` "
        "prints the settings of a recipe."
    )
    return "\n\n".join([introduction, *parts])


def _classes(cls: Any, *, place: str = "") -> list[tuple[str, Any]]:  # noqa: ANN401
    """Return a settings class and all below it, each once, with the path of the first place that it has."""
    found = [(place, cls)]
    for name, hint in typing.get_type_hints(cls).items():
        for member in [hint, *typing.get_args(hint)]:
            if dataclasses.is_dataclass(member):
                kind = getattr(member, "kind", None)
                path = f"{place}.{name}".strip(".") + (f" ({kind})" if kind else "")
                found += [each for each in _classes(member, place=path) if each[1] not in dict(found).values()]
    return found


def _table(cls: Any, *, place: str) -> str:  # noqa: ANN401
    schema = pydantic.TypeAdapter(cls).json_schema()["properties"]
    rows = [
        f"| `{name}` | {_default(field)} | {_values(each)} | {' '.join(each.get('description', '').split())} |"
        for name, each in schema.items()
        if name != "kind" and not _is_part(field := _field(cls, name))
    ]
    first = (cls.__doc__ or "").split("\n\n")[0]
    return "\n".join(
        [" ".join(first.split()), "", "| setting | default | values | meaning |", "|---|---|---|---|", *rows]
    )


def _field(cls: Any, name: str) -> "dataclasses.Field[Any]":  # noqa: ANN401
    return next(field for field in dataclasses.fields(cls) if field.name == name)


def _is_part(field: "dataclasses.Field[Any]") -> bool:
    return dataclasses.is_dataclass(field.default)


def _default(field: "dataclasses.Field[Any]") -> str:
    return "" if field.default is dataclasses.MISSING else f"`{json.dumps(field.default)}`"


def _values(schema: dict[str, Any]) -> str:
    """Return what a setting may be."""
    texts = []
    for each in schema.get("anyOf", [schema]):
        limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
        bounds = [f"{sign} {each[name]}" for name, sign in limits.items() if name in each]
        values = [f"`{value}`" for value in each.get("enum", ())]
        texts.append(", ".join(values) or " ".join([each.get("type", "a part"), *bounds]))
    return " or ".join(dict.fromkeys(texts))
