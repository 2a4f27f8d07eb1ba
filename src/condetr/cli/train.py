"""`condetr train`: train a recipe on a data set."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from condetr.cli.options import AsJson, Assignments, Device, print_json, say_what_was_understood
from condetr.errors import InputError
from condetr.words import ap_text

if TYPE_CHECKING:
    from rich.console import Console


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A name that `condetr recipes` lists, or a YAML file of settings; by default what `condetr doctor` "
            "recommends for the data."
        ),
    ] = None,
    *,
    data: Annotated[Path, typer.Option(help="Folder of images and annotations, or the file that describes them.")],
    out: Annotated[
        Path | None, typer.Option(help="The run folder; by default runs/RECIPE, or runs/DATA without a recipe.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Short for --set epochs=N.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time for everything, report included: a complete, shorter or longer schedule is planned."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Short for --set data.batch_size=N.")] = None,
    lr: Annotated[float | None, typer.Option(help="Short for --set optimizer.lr=X.")] = None,
    device: Device = None,
    train_split: Annotated[str | None, typer.Option(help="Training split, where the data has several.")] = None,
    val_split: Annotated[str | None, typer.Option(help="Validation split, where the data has several.")] = None,
    val_fraction: Annotated[
        float | None, typer.Option(help="Fraction of the training images to hold out if there is no validation split.")
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(help="Weights to start from: run folder, model folder, official .pth or hub id.")
    ] = None,
    resume: Annotated[
        Literal["auto"] | None, typer.Option(help="auto: continue a stopped run in this folder, otherwise start.")
    ] = None,
    as_json: AsJson = False,
    assignments: Assignments = None,
) -> None:
    """Train a detector, evaluate it and write its report."""
    say_what_was_understood(data, quiet=as_json)
    from rich.console import Console

    from condetr.api import train as train_and_report
    from condetr.config import assign, override
    from condetr.recipes import registry

    if minutes is not None and epochs is not None:
        raise InputError("--minutes plans how many epochs fit: give --minutes or --epochs, not both")
    console = Console(stderr=as_json)
    folder = out or Path("runs") / (Path(recipe).stem if recipe else data.absolute().stem)
    advised: list[str] = []
    if recipe is None and resume and (folder / "config.yaml").is_file():
        recipe = str(folder / "config.yaml")
    if recipe is None:
        recipe, advised = _advised(data, train_split=train_split, val_split=val_split, console=console)
    options = {
        "data.path": str(data),
        "data.train_split": train_split,
        "data.val_split": val_split,
        "data.val_fraction": val_fraction,
        "data.batch_size": batch_size,
        "optimizer.lr": lr,
        "init_from": init_from,
        "epochs": epochs,
        "minutes": minutes,
    }
    config = registry.recipe(recipe, *advised)
    given = {path: value for path, value in options.items() if value is not None}
    config = override(assign(config, given, source="command line"), assignments or [])
    result = train_and_report(config, out=folder, resume=resume == "auto", console=console, device=device)
    if not result.is_first_process:
        return
    if as_json:
        print_json(result.to_dict())
    else:
        # Without boxes in the validation images there are no metrics.
        scores = result.results.to_dict()
        told = "  ".join(f"{name} {ap_text(scores[name])}" for name in ("AP", "AP50", "AP75"))
        typer.echo(f"{told}  after {result.facts.train_seconds:.0f} s")
        typer.echo(f"weights {result.run.best}  report {result.run.report}")


def _advised(
    data: Path, *, train_split: str | None, val_split: str | None, console: "Console"
) -> tuple[str, list[str]]:
    """Return the recipe and the settings that the doctor recommends, and print them."""
    from condetr.cli.advice import Adviser, print_advice
    from condetr.doctor.examine import glance

    seen = glance(data, train_split=train_split, val_split=val_split)
    doctor = f"`condetr doctor {shlex.quote(str(data))}`"
    if seen.refused is not None:
        raise InputError(
            f"{seen.refused}; {doctor} lists everything that is wrong, and with --fix OUT writes a copy without it"
        )
    advice = Adviser(None).after_glance(seen, data=data)
    if advice.command is None:
        raise InputError(f"{data} cannot be trained on: {advice.instead}")
    if os.environ.get("RANK", "0") == "0":
        print_advice(console, advice, heading="no recipe was named, so this is run, followed by your options")
    return advice.recipe, advice.assignments
