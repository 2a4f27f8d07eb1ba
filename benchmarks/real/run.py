"""Train what is missing of the plan, evaluate it, and time it.

Each run is one `condetr train` that may be stopped and started again. Its model is that after the last epoch. `test` is
read once, after a training of the final stages. Data and runs are under runs/real, settings and logs are copied to
benchmarks/results/real. The number of epochs depends on the plan alone, so other work on the machine does no harm:
minutes come from steps that are timed by themselves.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.real import plan
from benchmarks.real.data import SPLITS, prepare
from benchmarks.training import branch_off, evaluate, keep, prediction_speed, train, training_speed
from condetr.errors import InputError
from condetr.optimize.machine import usable_cores
from condetr.storage.atomic import replaced_file
from condetr.words import ap_text

console = Console()


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where the benchmark reads and writes."""

    sources: Mapping[str, Path]
    """The folder of each data set as it was published."""
    weights: Path
    """Of the backbone."""
    runs: Path = Path("runs/real")
    results: Path = Path("benchmarks/results/real")
    lists: Path = SPLITS

    @property
    def backbone(self) -> Path:
        """The weights below `runs`, so that no setting holds a path of this machine."""
        copy = self.runs / self.weights.name
        if not copy.exists():
            self.runs.mkdir(parents=True, exist_ok=True)
            with replaced_file(copy) as draft:
                shutil.copyfile(self.weights, draft)
        return copy

    def data(self, run: plan.Run) -> Path:
        """Return the data of a run, which is written at first."""
        folder = self.runs / "data" / run.folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        prepare(self.sources[run.data], folder, lists=self.lists / run.data, share=float(run.share))
        return folder

    def speed_file(self, data: str, detector: str) -> Path:
        """Return the file of a detector's speeds."""
        return self.results / data / f"{detector}-speed.json"


def tune(workshop: Workshop, detectors: Mapping[str, Sequence[str]], *, parallel: int) -> None:
    """Make the trials of the detectors of each data set, then those of the rate at the longest schedule."""
    pairs = list({(data, _tuned_as(each)): None for data, names in detectors.items() for each in names})
    _train_all(workshop, [run for pair in pairs for run in plan.trials(*pair)], parallel=parallel, is_final=False)
    again = [plan.rate_trials(*pair, best=best_of(plan.trials(*pair), results=workshop.results)) for pair in pairs]
    _train_all(workshop, list(chain(*again)), parallel=parallel, is_final=False)


def final(workshop: Workshop, detectors: Mapping[str, Sequence[str]], *, parallel: int) -> None:
    """Train complete schedules of all lengths and seeds, and on shares of the images; evaluate them."""
    runs = [run for data, names in detectors.items() for each in names for run in final_runs(workshop, data, each)]
    _train_all(workshop, runs, parallel=parallel, is_final=True)


def speed(workshop: Workshop, detectors: Mapping[str, Sequence[str]]) -> None:
    """Time every detector, one after the other with all cores: nothing else may run meanwhile."""
    for data, names in detectors.items():
        for each in names:
            file = workshop.speed_file(data, each)
            if file.exists():
                continue
            run = final_runs(workshop, data, each)[0]
            folder, config = workshop.data(run), run.trunk_config(weights=workshop.backbone)
            speeds = {
                "training": training_speed(config, data=folder, threads=usable_cores()),
                "prediction": prediction_speed(workshop.runs / run.name, data=folder, split="test"),
            }
            file.write_text(json.dumps(speeds, indent=2) + "\n")
            console.print(f"{data}/{each}  {speeds['training']:.1f} and {speeds['prediction']:.1f} images/s")


def estimate(workshop: Workshop, detectors: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the hours of one core that each part of the plan takes, from an epoch of each detector, one thread."""
    rows = []
    for data, names in detectors.items():
        for each in names:
            first = plan.schedules(data, each, best=plan.DETECTORS[each].trials[0])
            folder = workshop.data(first[0])
            rate = training_speed(first[0].trunk_config(weights=workshop.backbone), data=folder, threads=1)
            images = len(json.loads((folder / "annotations" / "train.json").read_text())["images"])
            best = plan.DETECTORS[each].trials[0]
            again = [] if plan.DETECTORS[each].tuned_as else plan.rate_trials(data, each, best=best)
            parts = ([*plan.trials(data, each), *again], first, plan.share_runs(data, each, best=best))
            hours = [plan.epochs_trained(part) * images / rate / 3600 for part in parts]
            rows.append((data, each, f"{rate:.1f}", *(f"{part:.2f}" for part in hours), f"{sum(hours):.2f}"))
            console.print("  ".join(rows[-1]), highlight=False)
    return rows


def final_runs(workshop: Workshop, data: str, detector: str) -> list[plan.Run]:
    """Return the runs of the final stage, with the best tuning; raises InputError if the trials are not complete."""
    best = best_tuning(data, detector, results=workshop.results)
    return [*plan.schedules(data, detector, best=best), *plan.share_runs(data, detector, best=best)]


def best_tuning(data: str, detector: str, *, results: Path) -> plan.Tuning:
    """Return the tuning with the best AP on `val` at the longest schedule."""
    tuned_as = _tuned_as(detector)
    first = best_of(plan.trials(data, tuned_as), results=results)
    return best_of(plan.rate_trials(data, tuned_as, best=first), results=results)


def best_of(runs: Sequence[plan.Run], *, results: Path) -> plan.Tuning:
    """Return the tuning of the trial with the best AP on `val`; raises InputError if one is not complete."""
    for run in runs:
        if not (results / run.name / "results.json").exists():
            raise InputError(f"the trial {run.name} is not complete: tune at first")
    return max(runs, key=lambda run: last_of(run, results=results)["AP"] or 0.0).tuning


def last_of(run: plan.Run, *, results: Path) -> dict[str, float | None]:
    """Return the AP of a complete run on `val`, after its last epoch."""
    content: dict[str, Any] = json.loads((results / run.name / "results.json").read_text())
    last: dict[str, float | None] = content["last"]
    return last


def _tuned_as(detector: str) -> str:
    return plan.DETECTORS[detector].tuned_as or detector


def _train_all(workshop: Workshop, runs: Sequence[plan.Run], *, parallel: int, is_final: bool) -> None:
    for folder in {run.folder: run for run in runs}.values():
        workshop.data(folder)  # not in several threads
    threads = max(usable_cores() // parallel, 1)
    with ThreadPoolExecutor(parallel) as pool:
        list(
            pool.map(
                lambda of_trunk: _train_chain(workshop, of_trunk, threads=threads, is_final=is_final),
                plan.chains(runs),
            )
        )


def _train_chain(workshop: Workshop, runs: Sequence[plan.Run], *, threads: int, is_final: bool) -> None:
    """Train schedules that share their first epochs, the shortest first."""
    for run in runs:
        folder, kept, data = workshop.runs / run.name, workshop.results / run.name, workshop.data(run)
        if not (kept / "results.json").exists():
            if len(runs) > 1:
                trunk, constant = workshop.runs / run.trunk_name, run.trunk_config(weights=workshop.backbone)
                branch_off(folder, trunk, constant, data=data, threads=threads, report=False)
            train(run.config(weights=workshop.backbone), folder, data=data, threads=threads, report=False)
            keep(folder, kept)
            console.print(
                f"{run.name}  AP {ap_text(last_of(run, results=workshop.results)['AP'])} on val", highlight=False
            )
        for split in ("test", "train") if is_final else ():
            if not (kept / f"{split}.json").exists():
                options = ["--out", str(folder / split), "--overwrite", "--matches"]
                found = evaluate(folder, *options, data=data, split=split, threads=threads)
                (kept / f"{split}.json").write_text(json.dumps(found, indent=2) + "\n")
