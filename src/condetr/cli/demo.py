"""`condetr demo`: all steps once, from an empty folder, on two cores in minutes."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from condetr.cli.options import Assignments

TRAINING_IMAGES, VALIDATION_IMAGES, SEED = 8_000, 500, 1
SHOWN = 12
"""The number of images to predict at the end."""


def demo(
    *,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/demo"),
    data: Annotated[Path, typer.Option(help="The folder of the scenes; they are generated unless it exists.")] = Path(
        "data/demo"
    ),
    resume: Annotated[
        Literal["auto"] | None, typer.Option(help="auto: continue a stopped demo in this folder, otherwise start.")
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Generate scenes, train Conditional DETR on them from scratch, evaluate, predict, explain and report."""
    from condetr.cli.explain import explain
    from condetr.cli.predict import predict
    from condetr.cli.synth import synth
    from condetr.cli.train import train
    from condetr.runs.folder import RunFolder

    RunFolder(out).require_usable(resume=resume == "auto")
    # Scenes are written under another name and renamed: a folder that exists is complete.
    if not data.exists():
        synth(data, images=TRAINING_IMAGES, val_images=VALIDATION_IMAGES, seed=SEED)
    train("conditional_detr_tiny", data=data, out=out, resume=resume, assignments=assignments)
    sources = sorted(str(path) for path in (data / "images").glob("val_*"))[:SHOWN]
    predict(out, sources, out=out / "predictions", overwrite=True)
    explain(
        str(out),
        _most_certain(out / "predictions" / "detections.json"),
        threshold=0.0,
        out=out / "attention",
        overwrite=True,
    )
    typer.echo(f"open {out / 'report.html'}; next, your own data: condetr train --help")


def _most_certain(predictions: Path) -> Path:
    """Return the image with the highest-scored detection in a COCO file that `predict` wrote."""
    import json

    found = json.loads(predictions.read_text(encoding="utf-8"))
    best = max(found["annotations"], key=lambda annotation: annotation["score"])
    return next(Path(image["file_name"]) for image in found["images"] if image["id"] == best["image_id"])
