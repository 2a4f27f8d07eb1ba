"""`condetr train`: train a recipe on a data set."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from condetr.cli.as_json import AsJson, print_json
from condetr.cli.options import Assignments


def train(
    recipe: Annotated[str, typer.Argument(help="A name that `condetr recipes` lists, or a YAML file of settings.")],
    *,
    data: Annotated[Path, typer.Option(help="Folder or file in COCO, Pascal VOC or YOLO layout.")],
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/RECIPE by default.")] = None,
    train_split: Annotated[str | None, typer.Option(help="Training split, where the data has several.")] = None,
    val_split: Annotated[str | None, typer.Option(help="Validation split, where the data has several.")] = None,
    val_fraction: Annotated[
        float | None, typer.Option(help="Part of the training images to hold out if there is no validation split.")
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(help="Weights to start from: run folder, model folder, official .pth or hub id.")
    ] = None,
    resume: Annotated[
        Literal["auto"] | None, typer.Option(help="auto: go on where a run in this folder stopped, else start.")
    ] = None,
    as_json: AsJson = False,
    assignments: Assignments = None,
) -> None:
    """Train a detector, evaluate it and write its report."""
    from rich.console import Console

    from condetr.config import assign
    from condetr.recipes import registry
    from condetr.report.training import train as train_and_report

    options = {
        "data.path": str(data),
        "data.train_split": train_split,
        "data.val_split": val_split,
        "data.val_fraction": val_fraction,
        "init_from": init_from,
    }
    config = registry.recipe(recipe, *(assignments or []))
    given = {path: value for path, value in options.items() if value is not None}
    config = assign(config, given, source="command line")
    console = Console(stderr=as_json)
    folder = out or Path("runs") / Path(recipe).stem
    result = train_and_report(config, out=folder, resume=resume == "auto", console=console)
    if not result.is_first_process:
        return
    if as_json:
        print_json(result.results)
    else:
        # Without a box in the validation images there is nothing to measure.
        scores = {name: result.results[name] for name in ("AP", "AP50", "AP75")}
        told = "  ".join(f"{name} {'-' if score is None else f'{score:.3f}'}" for name, score in scores.items())
        typer.echo(f"{told}  after {result.results['train_seconds']:.0f} s")
        typer.echo(f"weights {result.run.best}  report {result.run.report}")
