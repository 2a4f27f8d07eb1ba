"""`python -m benchmarks.real run`, `summarise` and `estimate`; README.md says how."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.markdown import table_lines
from benchmarks.real import plan
from benchmarks.real.run import Workshop, estimate, final, speed, tune
from benchmarks.real.summarise import summary
from condetr.errors import InputError

STAGES = ("tune", "final", "speed")

app = typer.Typer(help=__doc__, no_args_is_help=True)
console = Console(highlight=False, markup=False, soft_wrap=True)

Sources = Annotated[list[str], typer.Option(metavar="NAME=PATH", help=f"Data set: {', '.join(plan.DATA)}; repeat it.")]
Backbone = Annotated[Path, typer.Option(help="MobileNetV2, as `condetr weights mobilenetv2` writes it.")]
Only = Annotated[list[str] | None, typer.Option("--detector", help="May be repeated; by default all of the plan.")]


@app.command("run")
def run_stages(
    *,
    data: Sources,
    weights: Backbone,
    detector: Only = None,
    stage: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(STAGES)}; by default all.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Trainings at once; each has an equal share of the cores.")] = 2,
) -> None:
    """Train, evaluate and time what is missing, stage by stage."""
    workshop, detectors = _plan(data, weights=weights, only=detector)
    if unknown := set(stage or ()) - set(STAGES):
        raise InputError(f"there is no stage {unknown.pop()}; choose among {', '.join(STAGES)}")
    wanted = stage or STAGES
    if "tune" in wanted:
        tune(workshop, detectors, parallel=parallel)
    if "final" in wanted:
        final(workshop, detectors, parallel=parallel)
    if "speed" in wanted:
        speed(workshop, detectors)


@app.command("summarise")
def print_summary() -> None:
    """Print the tables of what is complete; no file is changed."""
    defaults = Workshop(sources={}, weights=Path())
    console.print(summary(defaults.runs, defaults.results))


@app.command("estimate")
def print_estimate(*, data: Sources, weights: Backbone, detector: Only = None) -> None:
    """Time an epoch of each detector under one thread, and print the hours of one core that the plan takes."""
    workshop, detectors = _plan(data, weights=weights, only=detector)
    rows = estimate(workshop, detectors)
    total = sum(float(row[-1]) for row in rows)
    columns = ("data", "detector", "images/s", "tuning", "schedules", "shares of the images", "hours of one core")
    console.print("\n".join(table_lines(columns, [*rows, ("all", *[""] * 5, f"{total:.1f}")])))


def _plan(data: list[str], *, weights: Path, only: list[str] | None) -> tuple[Workshop, dict[str, list[str]]]:
    sources = dict(_source(each) for each in data)
    for name in only or []:
        if name not in plan.DETECTORS:
            raise InputError(f"there is no detector {name}; choose among {', '.join(plan.DETECTORS)}")
    if not weights.is_file():
        raise InputError(f"{weights} is no file: write it with `condetr weights mobilenetv2`")
    detectors = {name: [each for each in plan.DATA[name].seeds if not only or each in only] for name in sources}
    if not all(detectors.values()):
        raise InputError(f"the plan trains none of {', '.join(only or [])} on {', '.join(sources)}: see plan.py")
    return Workshop(sources=sources, weights=weights), detectors


def _source(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if name not in plan.DATA or not Path(path).is_dir():
        raise InputError(f"--data {text} is no NAME=FOLDER with one of the names {', '.join(plan.DATA)}")
    return name, Path(path)


if __name__ == "__main__":
    try:
        app()
    except InputError as error:
        raise SystemExit(str(error)) from None
