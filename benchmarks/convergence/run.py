"""Train the runs of the plan: `python -m benchmarks.convergence.run --setting stride32 --stage search`.

Each run is one `condetr train` and may be stopped and started again; complete ones are skipped. Schedules that differ
only in their length share the epochs before their drops (`benchmarks.training`). The data and the run folders are under
runs/convergence; settings and logs are copied to benchmarks/results/convergence.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.convergence import plan
from benchmarks.convergence.pretrain import pretrain
from benchmarks.training import branch_off, keep, train
from condetr.optimize.machine import usable_cores
from condetr.scenes.digits import write_digit_scenes
from condetr.scenes.shapes import write_scenes
from condetr.words import ap_text

RUNS = Path("runs/convergence")
RESULTS = Path("benchmarks/results/convergence")

STAGES = {
    "search": None,
    "long": plan.long,
    "schedules": plan.schedules,
    "faster": plan.faster,
    "ablations": plan.ablations,
}

console = Console()


def main(
    *,
    setting: Annotated[plan.Setting, typer.Option(help="Name of the setting.")] = "stride32",
    stage: Annotated[list[str], typer.Option(help=f"What to run, in this order: {', '.join(STAGES)}.")],
    parallel: Annotated[int, typer.Option(help="Runs at once; each gets an equal share of the cores.")] = 2,
) -> None:
    """Make the runs of the given stages."""
    if unknown := set(stage) - set(STAGES):
        raise SystemExit(f"there is no stage {', '.join(sorted(unknown))}; choose among {', '.join(STAGES)}")
    scenes = scenes_of(setting)
    if setting == "pretrained":
        pretrain(plan.BACKBONE, weights=Path(plan.PRETRAINED))
    for name in stage:
        chains: dict[str, list[plan.Run]] = defaultdict(list)
        for run in runs_of(setting, name):
            chains[run.trunk_name].append(run)
        with ThreadPoolExecutor(parallel) as pool:
            list(pool.map(lambda chain: _train_all(chain, scenes, threads=usable_cores() // parallel), chains.values()))


def scenes_of(setting: plan.Setting) -> Path:
    """Return the folder of a setting's scenes, which are generated unless they exist."""
    write = write_digit_scenes if setting == "digits" else write_scenes
    num_images = plan.FEW_TRAINING_IMAGES if setting in plan.FEW else plan.TRAINING_IMAGES
    folder = RUNS / {"digits": "digit_scenes", **dict.fromkeys(plan.FEW, "few_scenes")}.get(setting, "scenes")
    if not folder.exists():
        console.print(f"writing {num_images} + {plan.VALIDATION_IMAGES} scenes to {folder}")
        write(folder, num_images=num_images, val_images=plan.VALIDATION_IMAGES, seed=plan.SCENES_SEED)
    return folder


def runs_of(setting: plan.Setting, stage: str) -> Sequence[plan.Run]:
    """Return the runs of a stage; those after the search need its results."""
    make = STAGES[stage]
    return plan.search(setting) if make is None else make(setting, choice=choose(setting))


def choose(setting: plan.Setting) -> plan.Choice:
    """Return the best hyperparameters of each detector, and DETR's better loss, by the final AP in the search."""
    runs = plan.search(setting)
    best = {side: max((run for run in runs if run.side == side), key=final_ap) for side in plan.SEARCHED[setting]}
    return plan.Choice(
        tuning={side: run.tuning for side, run in best.items()},
        detr=max((side for side in best if side != "conditional_detr"), key=lambda side: final_ap(best[side])),
    )


def final_ap(run: plan.Run) -> float:
    """Return the AP of a complete run after its last epoch."""
    rows = (RESULTS / run.name / "metrics.csv").read_text().splitlines()
    values = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert int(values["epoch"]) == run.epochs, f"{run.name} is not complete"
    return float(values["AP"])


def _train_all(chain: Sequence[plan.Run], scenes: Path, *, threads: int) -> None:
    """Train schedules that share their first epochs, the shortest first."""
    for run in sorted(chain, key=lambda run: run.epochs):
        if not (RESULTS / run.name / "results.json").exists():
            folder, trunk = RUNS / run.name, RUNS / run.trunk_name
            branch_off(folder, trunk, run.trunk_config(), data=scenes, threads=threads)
            train(run.config(), folder, data=scenes, threads=threads)
            _keep(run)


def _keep(run: plan.Run) -> None:
    """Copy the results of a complete run."""
    keep(RUNS / run.name, RESULTS / run.name)
    results = json.loads((RESULTS / run.name / "results.json").read_text())
    console.print(f"{run.name}  AP {ap_text(final_ap(run))}  {results['train_seconds']:.0f} s", highlight=False)


if __name__ == "__main__":
    typer.run(main)
