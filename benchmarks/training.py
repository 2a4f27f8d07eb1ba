"""A training of a benchmark: one `condetr train` that may be stopped and started again, and what is kept of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from condetr.config import to_yaml
from condetr.engine.config import TrainConfig

KEPT = ("config.yaml", "metrics.csv", "results.json")
"""The last of them marks a run as complete."""


def train(config: TrainConfig, folder: Path, *, data: Path, threads: int) -> None:
    """Train, or go on with a training that was stopped; its settings and what it says are beside the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    settings, log = (folder.with_name(f"{folder.name}.{kind}") for kind in ("yaml", "log"))
    settings.write_text(to_yaml(config))
    # The command in the environment of this process, which need not be on the path.
    command = [sys.executable, "-m", "condetr", "train", str(settings), "--data", str(data)]
    with log.open("a") as output:
        done = subprocess.run(
            [*command, "--out", str(folder), "--resume", "auto"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(max(threads, 1))},
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{folder} ended with exit code {done.returncode}; see {log}")


def keep(folder: Path, kept: Path) -> None:
    """Copy the settings, the log and the results of a complete run."""
    kept.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copyfile(folder / name, kept / name)
