"""A training step while one other process computes: what it costs when threads that wait keep their core busy.

The other process computes without a pause. libgomp, which runs torch's threads, lets a thread that waits for others ask
GOMP_SPINCOUNT times before it gives its core away; its own default is 300,000.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from statistics import fmean, median

import torch

from benchmarks.speed.report import Cell, Table
from benchmarks.speed.training import make_inputs, our_step
from condetr.recipes.registry import recipe

SIZES = {"conditional_detr_tiny": (16, 128), "conditional_detr_mobilenet": (8, 320)}
"""Images of a step and their side."""
SETTINGS: dict[str, dict[str, str]] = {
    "libgomp's own": {"GOMP_SPINCOUNT": "300000"},
    "10,000": {"GOMP_SPINCOUNT": "10000"},
    "1,000": {"GOMP_SPINCOUNT": "1000"},
    "none": {"GOMP_SPINCOUNT": "0"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SECONDS = 10.0
WARM_UP = 3


def measure(*, quick: bool) -> Table:
    """Time steps in processes of their own, idle and beside another process."""
    seconds: dict[tuple[str, str, bool], float] = {}
    for is_busy in (False, True):
        with another_process() if is_busy else nullcontext():
            for name in SIZES:
                for setting, environment in SETTINGS.items():
                    seconds[name, setting, is_busy] = _timed(name, environment, seconds=1 if quick else SECONDS)
    own = next(iter(SETTINGS))
    rows: list[tuple[Cell, ...]] = [
        (name, setting, *(1e3 * seconds[name, setting, is_busy] for is_busy in (False, True)))
        for name in SIZES
        for setting in SETTINGS
    ]
    return Table(
        name="busy",
        title="Training step beside a process that computes without a pause",
        columns=("recipe", "asks of a waiting thread", "ms, idle", "ms, busy"),
        rows=rows,
        headline={
            f"{name}, {setting}, {'busy' if is_busy else 'idle'}, over libgomp's own": seconds[name, own, is_busy]
            / seconds[name, setting, is_busy]
            for name in SIZES
            for setting in ("10,000", "1,000")
            for is_busy in (False, True)
        },
        notes=[f"means of the steps in {SECONDS:g} seconds, each row in a process of its own, in the precision `auto`"],
    )


@contextmanager
def another_process() -> Iterator[None]:
    """Let another process compute for the length of a block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _timed(name: str, environment: dict[str, str], *, seconds: float) -> float:
    command = [sys.executable, "-m", "benchmarks.speed.busy", name, str(seconds)]
    done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main(name: str, seconds: float) -> None:
    """Print the mean seconds of a step, in this process."""
    from condetr.optimize.machine import has_fast_bf16, keep_memory

    keep_memory()
    images, side = SIZES[name]
    step = our_step(
        make_inputs(images=images, size_hw=(side, side)),
        bf16=has_fast_bf16(torch.device("cpu")),
        config=recipe(name),
    )
    for _ in range(WARM_UP):
        step()
    taken: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    print(f"median {median(taken):.3f}", file=sys.stderr)
    print(fmean(taken))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
