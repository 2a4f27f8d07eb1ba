"""`--json`: what a command found as one JSON value on stdout, and nothing else there."""

import json
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text and tables.")]


def print_json(content: Any) -> None:  # noqa: ANN401 - JSON is anything
    """Print plain data."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
