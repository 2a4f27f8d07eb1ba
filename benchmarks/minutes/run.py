"""Train a recipe with each change in the same minutes: `python -m benchmarks.minutes.run --data DATA --minutes 10`.

One training after the other, each with all cores, so that minutes are comparable: nothing else may run meanwhile.
Stopped ones go on, complete ones are skipped. Runs are under runs/minutes, settings and logs under
benchmarks/results/minutes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.minutes import plan
from benchmarks.minutes.summarise import RESULTS, table_of
from benchmarks.training import keep, train
from condetr.engine.config import TrainConfig
from condetr.errors import InputError
from condetr.optimize.machine import usable_cores
from condetr.recipes.registry import recipe as recipe_of

RUNS = Path("runs/minutes")


def main(
    *,
    data: Annotated[list[Path], typer.Option(help="Data set; may be repeated.")],
    minutes: Annotated[list[float], typer.Option(help="Budget of a training; may be repeated.")],
    recipe: Annotated[str, typer.Option(help="The recipe that is changed.")] = "conditional_detr_mobilenet",
    change: Annotated[
        list[str] | None, typer.Option(help="Name of a change, several joined by +; may be repeated. By default all.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="May be repeated; 1 by default.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Setting of every run; may be repeated.")
    ] = None,
) -> None:
    """Train what is missing, one change after the other, and print the table."""
    changes = change or [*plan.CHANGES]
    try:
        base = recipe_of(recipe, *(settings or ()))
        configs = {name: plan.changed(base, name) for name in changes}
    except InputError as error:
        raise SystemExit(str(error)) from None
    for each in data:
        for budget in minutes:
            group = f"{each.absolute().name}/{recipe}/{budget:g}min"
            for number in seed or [1]:
                for name, config in configs.items():
                    _train_once(replace(config, seed=number, minutes=budget), f"{group}/{name}-seed{number}", data=each)
            Console().print("\n".join(table_of(RESULTS / group)), highlight=False, markup=False, soft_wrap=True)


def _train_once(config: TrainConfig, name: str, *, data: Path) -> None:
    if (RESULTS / name / "results.json").exists():
        return
    Console().print(f"training {name}", highlight=False)
    train(replace(config, recipe=name), RUNS / name, data=data, threads=usable_cores())
    keep(RUNS / name, RESULTS / name)


if __name__ == "__main__":
    typer.run(main)
