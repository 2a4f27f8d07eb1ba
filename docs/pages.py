"""Pages of the site that are made from something else: the README, the docstrings of settings, the notebook."""

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
NOTEBOOK = Path(__file__).parent / "first-five-minutes.ipynb"
FIGURE = "benchmarks/results/convergence/convergence.png"
"""Shown in the page of results, and kept beside what it is drawn from."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages."""
    pages = {
        "index.md": start_page(),
        "settings.md": settings_page(),
        NOTEBOOK.with_suffix(".md").name: notebook_page(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, f"pictures/{Path(FIGURE).name}", abs_src_path=str(ROOT / FIGURE)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401
    """Turn links to files outside the site into their text."""
    markdown = markdown.replace(f"](../{FIGURE})", f"](pictures/{Path(FIGURE).name})")
    markdown = markdown.replace(".ipynb)", ".md)")
    return re.sub(r"\[([^\]]*)\]\((?:\.\./|benchmarks/|LICENSE|CONTRIBUTING)[^)]*\)", r"\1", markdown)


def start_page() -> str:
    """Return README.md with its links as seen from this folder."""
    return (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")


def notebook_page() -> str:
    """Return the notebook as it was last run."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(part for cell in cells for part in _cell(cell))


def _cell(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *map(_output, cell["outputs"])]


def _output(output: dict[str, Any]) -> str:
    """Return a picture, otherwise text."""
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img src="data:image/png;base64,{"".join(data["image/png"]).strip()}" alt="what the cell shows">'
    if "text/html" in data:
        return "".join(data["text/html"])
    return f"```text\n{''.join(output.get('text', data.get('text/plain', ''))).rstrip()}\n```"


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
