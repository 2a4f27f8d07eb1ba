"""A training of a benchmark: one `condetr train` that may be stopped and started again, and what is kept of it.

Schedules that differ only in their length share the epochs before their rate falls: a training at a constant rate goes
on from branch to branch, and each schedule continues from a copy of it. The result is bit for bit the same as if each
had been trained separately.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from condetr.config import override, to_yaml
from condetr.engine.config import TrainConfig

KEPT = ("config.yaml", "metrics.csv", "results.json")
"""The last of them marks a run as complete."""
TIMED_EPOCHS = 2
"""Epochs of the training that is timed; the first one warms up."""


def train(config: TrainConfig, folder: Path, *, data: Path, threads: int, report: bool = True) -> None:
    """Train, or go on with a training that was stopped; its settings and what it says are beside the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    settings, log = (folder.with_name(f"{folder.name}.{kind}") for kind in ("yaml", "log"))
    settings.write_text(to_yaml(config))
    # The command in the environment of this process, which need not be on the path.
    command = [sys.executable, "-m", "condetr", "train", str(settings), "--data", str(data)]
    command += ["--out", str(folder), "--resume", "auto"]
    if not report:
        command = [sys.executable, "-m", "benchmarks.training", str(settings), str(data), str(folder)]
    with log.open("a") as output:
        done = subprocess.run(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(max(threads, 1))},
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{folder} ended with exit code {done.returncode}; see {log}")


def with_rates(config: TrainConfig, factor: float) -> TrainConfig:
    """Return the settings with both learning rates multiplied."""
    rates = {rate: factor * getattr(config.optimizer, rate) for rate in ("lr", "backbone_lr")}
    return override(config, [f"optimizer.{rate}={value}" for rate, value in rates.items()])


def keep(folder: Path, kept: Path) -> None:
    """Copy the settings, the log and the results of a complete run."""
    kept.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copyfile(folder / name, kept / name)


def branch_off(
    folder: Path, trunk: Path, config: TrainConfig, *, data: Path, threads: int, report: bool = True
) -> None:
    """Start a run, unless it has begun, from the end of its trunk, which is trained with these settings."""
    if folder.exists() or epochs_of(trunk) > config.epochs:
        return
    if epochs_of(trunk) < config.epochs:
        train(config, trunk, data=data, threads=threads, report=report)
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(trunk, draft)
    draft.rename(folder)


def epochs_of(folder: Path) -> int:
    """Return the number of completed epochs of a training."""
    rows = folder / "metrics.csv"
    return len(rows.read_text().splitlines()) - 1 if rows.exists() else 0


def evaluate(run: Path, *options: str, data: Path, split: str, threads: int) -> dict[str, Any]:
    """Return what `condetr evaluate` finds on a split, with further options."""
    command = [sys.executable, "-m", "condetr", "evaluate", str(run), "--data", str(data), "--split", split, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(threads, 1))}
    done = subprocess.run([*command, *options], stdout=subprocess.PIPE, env=environment, check=True)
    results: dict[str, Any] = json.loads(done.stdout)
    return {key: results[key] for key in ("AP", "AP50", "AP75", "images", "split", "precision")}


def training_speed(config: TrainConfig, *, data: Path, threads: int) -> float:
    """Return the images a second in training, in an epoch after a first one that warms up; from a short training."""
    lengths = [f"{name}={TIMED_EPOCHS}" for name in ("epochs", "evaluate_every")]
    drop = [f"schedule.drop_epoch={TIMED_EPOCHS}"] if config.schedule.kind == "step" else []
    with tempfile.TemporaryDirectory() as folder:
        short = override(config, [*lengths, *drop])
        train(short, Path(folder) / "run", data=data, threads=threads, report=False)
        with (Path(folder) / "run" / "timing.csv").open() as rows:
            *_, last = csv.DictReader(rows)
    return float(last["images_per_second"])


def prediction_speed(run: Path, *, data: Path, split: str) -> float:
    """Return the images a second in prediction on all cores: one at a time, in fp32, decoding included."""
    from condetr.interop.loading import load
    from condetr.optimize.machine import keep_memory
    from condetr.runs.part import open_part

    keep_memory()
    predictor = load(run, device="cpu").optimize("fp32", engine="torch")
    part = open_part(data, weights=run, split=split, skip_unreadable=False)
    paths = [record.path for record in part.split.records]
    predictor.predict(paths[0])
    start = time.perf_counter()
    for path in paths:
        predictor.predict(path)
    return len(paths) / (time.perf_counter() - start)


def main(settings: Path, data: Path, out: Path) -> None:
    """Train with settings from a file, or go on, without a report."""
    from condetr.api import fit
    from condetr.recipes.registry import recipe

    fit(recipe(str(settings), f"data.path={data}"), out=out, resume=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
