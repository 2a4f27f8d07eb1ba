"""Train a recipe with each change in the same minutes: `python -m benchmarks.minutes.run --data DATA --minutes 10`.

A step of each change is timed first, with `--time` and with nothing else running. Then every training has as many
steps as its minutes would give on that machine alone, so that trainings may run side by side and beside other work.
Stopped ones go on, complete ones are skipped. Runs are under runs/minutes, settings and logs under
benchmarks/results/minutes.
"""

import csv
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from benchmarks.minutes import plan
from benchmarks.minutes.summarise import BASE, RESULTS, table_of
from benchmarks.training import keep, train
from condetr.engine.budget import scaled
from condetr.engine.config import TrainConfig
from condetr.errors import InputError
from condetr.optimize.machine import usable_cores
from condetr.recipes.registry import recipe as recipe_of

RUNS = Path("runs/minutes")
TIMED_EPOCHS = 3
"""Of the short training in which steps are timed; the first one warms up."""


class Seconds(NamedTuple):
    """What the parts of a training take on this machine alone."""

    step: float
    rest: float
    """Starting, one evaluation and the report."""
    steps_per_epoch: int

    def steps_in(self, minutes: float) -> int:
        """Return the steps of a training that ends in time."""
        return int((60 * minutes - self.rest) / self.step)


def main(
    *,
    data: Annotated[Path, typer.Option(help="Data set.")],
    minutes: Annotated[list[float] | None, typer.Option(help="Budget of a training; may be repeated.")] = None,
    recipe: Annotated[str, typer.Option(help="The recipe that is changed.")] = "conditional_detr_mobilenet",
    change: Annotated[
        list[str] | None, typer.Option(help="Name of a change, several joined by +; may be repeated. By default all.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="May be repeated; 1 by default.")] = None,
    threads: Annotated[int, typer.Option(help="Of a training.")] = usable_cores(),
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Setting of every run; may be repeated.")
    ] = None,
    timing: Annotated[bool, typer.Option("--time", help="Time steps, and do not train.")] = False,
) -> None:
    """Time or train what is missing, one change after the other, and print the table."""
    changes = change or [*plan.CHANGES]
    group = f"{data.absolute().name}/{recipe}"
    try:
        base = recipe_of(recipe, *(settings or ()))
        configs = {name: plan.changed(base, name) for name in changes}
        if timing:
            _time({BASE: base} | configs, group, data=data)
            return
        seconds = {name: _seconds(group, name) for name in changes}
    except InputError as error:
        raise SystemExit(str(error)) from None
    for budget in minutes or [10.0]:
        for number in seed or [1]:
            for name, config in configs.items():
                planned = in_minutes(replace(config, seed=number), budget, seconds=seconds[name])
                run = f"{group}/{budget:g}min/{name}-seed{number}"
                _train_once(replace(planned, recipe=run), run, data=data, threads=threads)
        table = table_of(RESULTS / group / f"{budget:g}min")
        Console().print("\n".join(table), highlight=False, markup=False, soft_wrap=True)


def in_minutes(config: TrainConfig, minutes: float, *, seconds: Seconds) -> TrainConfig:
    """Return the settings of a training of so many minutes that is evaluated once, at its end."""
    steps = seconds.steps_in(minutes)
    if steps < 1:
        raise SystemExit(f"{minutes:g} minutes are too few: a step takes {seconds.step:.2g} s")
    return scaled(config, steps=steps, steps_per_epoch=seconds.steps_per_epoch, evaluations=0)


def _train_once(config: TrainConfig, name: str, *, data: Path, threads: int) -> None:
    if (RESULTS / name / "results.json").exists():
        return
    Console().print(f"training {name}", highlight=False)
    train(config, RUNS / name, data=data, threads=threads)
    keep(RUNS / name, RESULTS / name)


def _seconds(group: str, name: str) -> Seconds:
    """Return what was timed; all changes have the rest of the recipe, and most its steps."""
    timed = {}
    for part in (BASE, plan.costly_part(name) or BASE):
        path = RESULTS / group / "seconds" / f"{part}.json"
        if not path.exists():
            raise InputError(f"the steps of {part!r} were not timed: run this first with --time, on an idle machine")
        timed[part] = Seconds(**json.loads(path.read_text()))
    return timed[part]._replace(rest=timed[BASE].rest)


def _time(configs: dict[str, TrainConfig], group: str, *, data: Path) -> None:
    for name, config in configs.items():
        part = plan.costly_part(name) or BASE
        path = RESULTS / group / "seconds" / f"{part}.json"
        if path.exists():
            continue
        timed = _timed(configs.get(part, config), data=data)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(timed._asdict()) + "\n")
        Console().print(f"{part}: {timed.step:.3f} s a step", highlight=False)


def _timed(config: TrainConfig, *, data: Path) -> Seconds:
    """Train for some epochs with all cores."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        short = replace(config, epochs=TIMED_EPOCHS, evaluate_every=TIMED_EPOCHS)
        began = time.perf_counter()
        train(short, run, data=data, threads=usable_cores())
        took = time.perf_counter() - began
        with (run / "timing.csv").open() as file:
            rows = list(csv.DictReader(file))
        steps_per_epoch = json.loads((run / "results.json").read_text())["steps"] // TIMED_EPOCHS
    step = _mean_seconds(rows[1:], images=config.data.batch_size)
    return Seconds(step, rest=took - step * steps_per_epoch * TIMED_EPOCHS, steps_per_epoch=steps_per_epoch)


def _mean_seconds(rows: Sequence[dict[str, str]], *, images: int) -> float:
    return sum(images / float(row["images_per_second"]) for row in rows) / len(rows)


if __name__ == "__main__":
    typer.run(main)
