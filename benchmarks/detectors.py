"""The seven detectors of table 2 on one data set: `python -m benchmarks.detectors DATA --weights FILE`.

Each small recipe is trained on `train` for equally many epochs, with nothing else changed, and evaluated after the last
one on `val`, and once on `test`. Trainings that were stopped go on. Then each is timed on two epochs of its own and on
the test images, with all cores: nothing else may run meanwhile. Runs are under runs/detectors, settings, logs and the
table under benchmarks/results/detectors.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.markdown import table_lines
from benchmarks.training import evaluate, keep, prediction_speed, train, training_speed
from condetr.engine.config import TrainConfig
from condetr.optimize.machine import usable_cores
from condetr.recipes.registry import recipe
from condetr.words import ap_text

RECIPES = {
    "detr_mobilenet": "DETR",
    "conditional_detr_mobilenet": "Conditional DETR",
    "deformable_detr_mobilenet": "Deformable DETR",
    "fcos_mobilenet": "FCOS",
    "faster_rcnn_mobilenet": "Faster R-CNN",
    "tsp_fcos_mobilenet": "TSP-FCOS",
    "tsp_rcnn_mobilenet": "TSP-RCNN",
}
RUNS, RESULTS = Path("runs/detectors"), Path("benchmarks/results/detectors")


def main(
    data: Annotated[Path, typer.Argument(help="Data set with the splits train, val and test.")],
    *,
    weights: Annotated[Path, typer.Option(help="MobileNetV2, as `condetr weights mobilenetv2` writes it.")],
    epochs: Annotated[int, typer.Option(help="Of each training; the rate drops after four fifths.")] = 50,
    threads: Annotated[int, typer.Option(help="Of each training.")] = usable_cores(),
    only: Annotated[list[str] | None, typer.Option(help="A recipe; may be repeated. By default all.")] = None,
) -> None:
    """Train, evaluate and time what is missing, and write the table."""
    name = data.absolute().name
    for each in only or RECIPES:
        config = _config(each, weights=weights, epochs=epochs)
        run, kept = RUNS / name / each, RESULTS / name / each
        if not (kept / "results.json").exists():
            train(config, run, data=data, threads=threads)
            keep(run, kept)
        if not (kept / "test.json").exists():
            _write(kept / "test.json", evaluate(run, data=data, split="test", threads=usable_cores()))
        if not (kept / "speed.json").exists():
            speeds = {
                "training": training_speed(config, data=data, threads=usable_cores()),
                "prediction": prediction_speed(run, data=data, split="test"),
            }
            _write(kept / "speed.json", speeds)
    if not only:
        table = _table(RESULTS / name, epochs=epochs)
        (RESULTS / name / "README.md").write_text(table)
        print(table)


def _config(name: str, *, weights: Path, epochs: int) -> TrainConfig:
    return recipe(
        name,
        f"detector.backbone.weights={weights}",
        "data.train_split=train",
        "data.val_split=val",
        "data.transform.vertical_flip=0.5",
        f"epochs={epochs}",
        f"schedule.drop_epoch={epochs * 4 // 5}",
    )


def _table(results: Path, *, epochs: int) -> str:
    """Return the table, the best AP on `test` first."""
    names = sorted(RECIPES, key=lambda name: -_read(results / name / "test.json")["AP"])
    columns = (
        *("", "AP on val", "AP50", "AP on test", "AP50", "million parameters"),
        *("images/s in training", "minutes", "images/s in prediction"),
    )
    rows = []
    for name in names:
        last, test, speed = (_read(results / name / f"{part}.json") for part in ("results", "test", "speed"))
        images = epochs * last["train_images"]
        rows.append(
            (
                *(RECIPES[name], *(ap_text(each[key]) for each in (last, test) for key in ("AP", "AP50"))),
                f"{last['parameters'] / 1e6:.1f}",
                *(f"{speed['training']:.1f}", f"{images / speed['training'] / 60:.0f}", f"{speed['prediction']:.0f}"),
            )
        )
    return "\n".join([f"{epochs} epochs each.", "", *table_lines(columns, rows), ""])


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    last: dict[str, Any] = content.get("last", {})
    return content | last  # what was reached in the last epoch, rather than the best


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
