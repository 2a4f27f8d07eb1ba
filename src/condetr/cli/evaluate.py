"""`condetr evaluate`: the COCO metrics of a trained model on a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condetr.cli.options import (
    AsJson,
    Device,
    Overwrite,
    Precision,
    Weights,
    optimised,
    print_json,
    say_what_was_understood,
)
from condetr.words import ap_difference_text, ap_text

PADDED_BATCH = 8

if TYPE_CHECKING:
    from condetr.data.dataset import Split
    from condetr.engine.results import Evaluation
    from condetr.inference.predictor import Predictor
    from condetr.metrics.coco import CocoResults


def evaluate(
    weights: Weights,
    *,
    data: Annotated[Path, typer.Option(help="Folder of images and annotations, or the file that describes them.")],
    split: Annotated[
        str | None, typer.Option(help="Default: the validation or the test split, or what the run held out.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="More than 1 is faster on a GPU, but padding changes the numbers a little.")
    ] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 0,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out images that are missing or broken.")
    ] = False,
    device: Device = None,
    precision: Precision = "fp32",
    out: Annotated[Path | None, typer.Option(help="Folder for results.json.")] = None,
    matches: Annotated[
        bool,
        typer.Option(
            "--matches", help="Also write matches.npz to --out: `condetr compare` then samples the images, too."
        ),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    padding_check: Annotated[
        bool,
        typer.Option(
            "--padding-check",
            help=f"Evaluate twice, one image at a time and in batches ({PADDED_BATCH} unless --batch-size is more "
            "than 1), and show what padding changes.",
        ),
    ] = False,
) -> None:
    """Evaluate a model on a data set: COCO's average precision and recall, overall and for each class."""
    say_what_was_understood(data, quiet=as_json)
    from condetr.interop.loading import load
    from condetr.metrics.matches import MATCHES, find_matches
    from condetr.optimize.machine import keep_memory
    from condetr.runs.part import in_classes_of, open_part

    _require_place(out, overwrite=overwrite, matches=matches)
    keep_memory()
    predictor = optimised(load(weights, device=device), precision)
    part = open_part(data, weights=weights, split=split, skip_unreadable=skip_unreadable)
    truth = in_classes_of(predictor.label_map, part.split, weights=weights, data=data)
    for finding in part.findings:
        if finding.severity == "warning":
            typer.echo(finding.sentence, err=True)
    evaluation = _evaluate(predictor, truth, batch_size=batch_size, workers=workers)
    results = evaluation.results
    if not as_json:
        _show(results, title=part.title(weights=weights, data=data))
    content: dict[str, Any] = {
        **results.to_dict(),
        "weights": str(weights),
        "data": str(data),
        "split": truth.name,
        "images": len(truth),
        "images_trained_on": part.trained_on,
        "precision": precision,
        "label_map": truth.label_map.to_list(),
    }
    if padding_check:
        other_size = 1 if batch_size > 1 else PADDED_BATCH
        other = _evaluate(predictor, truth, batch_size=other_size, workers=workers).results
        content["padding_check"] = _compare_batches({batch_size: results, other_size: other})
        if not as_json:
            _show_padding(content["padding_check"])
    if out is not None:
        _write(out / "results.json", content)
    if out is not None and matches:
        find_matches(truth, evaluation.detections).save(out / MATCHES)
    if as_json:
        print_json(content)


def _require_place(out: Path | None, *, overwrite: bool, matches: bool) -> None:
    from condetr.errors import InputError
    from condetr.storage.atomic import require_free

    if out is not None:
        require_free(out, overwrite=overwrite)
    elif matches:
        raise InputError("--matches writes a file: name its folder with --out")


def _evaluate(predictor: "Predictor", split: "Split", *, batch_size: int, workers: int) -> "Evaluation":
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from condetr.api import evaluate_predictor

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("evaluating", total=len(split))
        return evaluate_predictor(
            predictor,
            split,
            batch_size=batch_size,
            workers=workers,
            progress=lambda count: progress.advance(task, count),
        )


def _show(results: "CocoResults", *, title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, soft_wrap=True)
    plain = results.to_dict()
    classes = Table("class", "id", box=box.SIMPLE_HEAD)
    for column in ("images", "objects", "AP", "AP50"):
        classes.add_column(column, justify="right")
    for row in plain["per_class"]:
        numbers = (f"{row['images']:,}", f"{row['boxes']:,}", ap_text(row["AP"]), ap_text(row["AP50"]))
        classes.add_row(row["name"], str(row["dataset_id"]), *numbers)
    console.print(title)
    console.print(classes)
    for kind in ("AP", "AR"):
        names = [name for name in plain if name.startswith(kind)]
        console.print("   ".join(f"{name} {ap_text(plain[name])}" for name in names))
    if plain["threshold"] is not None:
        console.print(f"F1 {ap_text(plain['F1'])} at IoU 0.5, with the best threshold, {plain['threshold']:g}")


def _compare_batches(results: dict[int, "CocoResults"]) -> dict[str, Any]:
    """Return the metrics at batch size 1, in larger batches, and their differences, in this order."""
    (_, alone), (batch_size, batched) = sorted((size, found.to_dict()) for size, found in results.items())
    scores = {name: (alone[name], batched[name]) for name in alone if name.startswith(("AP", "AR"))}
    return {
        "batch_sizes": [1, batch_size],
        "scores": scores,
        "differences": {name: None if None in pair else pair[1] - pair[0] for name, pair in scores.items()},
    }


def _show_padding(check: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    batch_size = check["batch_sizes"][1]
    table = Table("padding", box=box.SIMPLE_HEAD)
    for heading in ("batch 1", f"batch {batch_size}", "difference"):
        table.add_column(heading, justify="right")
    for name, (alone, batched) in check["scores"].items():
        table.add_row(name, ap_text(alone), ap_text(batched), ap_difference_text(check["differences"][name]))
    Console(highlight=False).print(table)


def _write(path: Path, content: dict[str, Any]) -> None:
    from condetr.storage.atomic import replaced_file, write_json

    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft:
        write_json(draft, content)
