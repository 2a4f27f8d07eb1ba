"""Prediction in shards on a local Ray cluster of two workers, one of which is killed, beside two processes.

CONDETR_IMAGES is the number of images, as for `streaming`.
"""

import time

import psutil

from benchmarks.speed.report import Cell, Table
from benchmarks.speed.streaming import (
    Ran,
    compared,
    in_shards,
    list_of,
    material,
    num_done,
    num_images,
    shards_command,
    started,
    wait_for,
)

WORKERS = ("--workers", "2")


def measure(*, quick: bool) -> Table:
    """Predict on this machine, and on the cluster while a worker is lost."""
    with material(count=num_images(quick=quick)) as made:
        listed = list_of(made, len(made.images))
        here = in_shards(made, listed, out="here", options=WORKERS)
        out = made.folder / "cluster"
        began = time.perf_counter()
        process = started(shards_command(made, listed, out=out, options=("--engine", "ray", *WORKERS)))
        halfway = len(list((made.folder / "here" / "shards").iterdir())) // 2
        killed = wait_for(lambda: num_done(out) >= halfway, process)
        if killed:
            _actors()[0].kill()
        if process.wait() != 0:
            raise SystemExit(f"the prediction on the cluster ended with {process.returncode}")
        there = Ran(time.perf_counter() - began, 0)
        equal, lost, twice = compared(out, made.folder / "here", made.images)
    rows: list[tuple[Cell, ...]] = [
        ("two processes", here.seconds, len(made.images) / here.seconds),
        ("two workers of a cluster, one killed halfway", there.seconds, len(made.images) / there.seconds),
    ]
    return Table(
        name="cluster",
        title=f"Prediction of {len(made.images):,} scenes on a local Ray cluster",
        columns=("", "seconds, start included", "images a second"),
        rows=rows,
        headline={
            "workers killed": float(killed),
            "images lost": lost,
            "images twice": twice,
            "bytes equal to the processes' of one machine": float(equal),
        },
    )


def _actors() -> list[psutil.Process]:
    running = psutil.process_iter(["cmdline"])
    return [each for each in running if "ray::MapWorker" in " ".join(each.info["cmdline"] or [])]
