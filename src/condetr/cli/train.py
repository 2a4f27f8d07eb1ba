"""`condetr train`: train a recipe on a data set."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from condetr.cli.options import AsJson, Assignments, Device, print_json, say_what_was_understood
from condetr.words import ap_text


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

    result = train_and_report(
        recipe,
        data=data,
        out=out,
        epochs=epochs,
        minutes=minutes,
        batch_size=batch_size,
        lr=lr,
        train_split=train_split,
        val_split=val_split,
        val_fraction=val_fraction,
        init_from=init_from,
        settings=assignments or [],
        resume=resume == "auto",
        device=device,
        console=Console(stderr=as_json),
    )
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
