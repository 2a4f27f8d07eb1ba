"""Arguments and options that several commands have in common, so that they are called and explained alike."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Weights = Annotated[Path, typer.Argument(metavar="WEIGHTS", help="Run folder, model folder, official .pth or hub id.")]

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder of images and annotations, or the file that describes them.")
]

Device = Annotated[str | None, typer.Option(help="Such as cpu or cuda; else the GPU if there is one.")]

Precision = Annotated[
    Literal["fp32", "bf16", "auto"],
    typer.Option(help="bf16 is faster and a little less exact; auto takes it where the machine computes in it."),
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")]

Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change any setting; may be repeated.")
]


def say_what_was_understood(data: Path, *, quiet: bool = False) -> None:
    """Say in a line which layout data is in and where its parts are; raises InputError where that cannot be told.

    It comes before everything else: nothing heavy is imported for it.
    """
    from condetr.data.recognise import recognise

    source = recognise(data)
    if not quiet and os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        for line in (source.understood, *source.notes):
            typer.echo(line)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text and tables.")]


def print_json(content: Any) -> None:  # noqa: ANN401 - JSON is anything
    """Print plain data."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
