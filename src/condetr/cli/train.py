"""`condetr train`: train a recipe on a data set."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from condetr.cli.options import AsJson, Assignments, Device, print_json, say_what_was_understood
from condetr.errors import InputError
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
    devices: Annotated[
        int | None, typer.Option(min=1, help="Processes to train in, each with a GPU of its own or a share of the CPU.")
    ] = None,
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
    is_divided = devices is not None and _is_to_be_divided(devices)
    say_what_was_understood(data, quiet=as_json or is_divided)
    if is_divided:
        _train_in_processes(devices or 1, out=out, recipe=recipe, data=data)
        return
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


def _is_to_be_divided(devices: int) -> bool:
    """Tell whether this process is to start others, rather than being one that was started."""
    started = os.environ.get("LOCAL_WORLD_SIZE")
    if started is None:
        return devices > 1
    if int(started) != devices:
        raise InputError(f"--devices {devices} does not agree with torchrun, which started {started}: leave it out")
    return False


def _train_in_processes(devices: int, *, out: Path | None, recipe: str | None, data: Path) -> None:
    from condetr.engine.supervise import supervise
    from condetr.recipes.chosen import run_folder
    from condetr.runs.folder import RunFolder

    run = RunFolder(run_folder(recipe, data=data) if out is None else out)
    supervise(sys.argv[1:], processes=devices, checkpoint=run.last_checkpoint)
