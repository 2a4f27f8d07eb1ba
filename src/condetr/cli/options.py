"""Arguments and options that several commands share, so that their names and help texts are the same."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from condetr.inference import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from condetr.inference.predictor import Predictor

Weights = Annotated[
    Path, typer.Argument(metavar="WEIGHTS", help="Run folder, model folder, official .pth, exported graph or hub id.")
]

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder of images and annotations, or the file that describes them.")
]

Device = Annotated[str | None, typer.Option(help="Such as cpu or cuda; by default the GPU if there is one.")]

Precision = Annotated[
    Literal["fp32", "bf16", "auto"],
    typer.Option(help="bf16 is faster and a little less exact; auto takes the fastest that this machine has."),
]

Threshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Minimum score of a detection; by default what was best in the model's validation, otherwise "
        f"{DEFAULT_THRESHOLD:g}.",
    ),
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")]

Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change any setting; may be repeated.")
]


def say_what_was_understood(data: Path, *, quiet: bool = False) -> None:
    """Print a line about the layout of the data and where its parts are; raises InputError if it is not clear.

    It comes before everything else, and therefore imports no slow library.
    """
    from condetr.data.recognise import recognise

    source = recognise(data)
    if not quiet and is_first_process():
        for line in (source.understood, *source.notes):
            typer.echo(line)


def optimised(predictor: "Predictor", precision: Literal["fp32", "bf16", "auto"]) -> "Predictor":
    """Return the predictor in torch, or for `auto` in the fastest engine, of which it is said that it takes a while."""
    if precision != "auto":
        return predictor.optimize(precision, engine="torch")
    typer.echo("auto: unless known already, the fastest engine is found on the first image, in a minute", err=True)
    if find_spec("openvino") is None:
        typer.echo("auto: OpenVINO, which is often the fastest on a CPU, is missing: pip install openvino", err=True)
    return predictor.optimize()


def is_first_process() -> bool:
    """Tell whether this is the one of several processes that prints."""
    return os.environ.get("RANK", "0") == "0"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text and tables.")]


def print_json(content: Any) -> None:  # noqa: ANN401 - JSON is anything
    """Print plain data."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
