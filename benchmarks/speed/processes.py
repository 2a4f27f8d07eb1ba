"""What a second process gains a training step on one machine, and what the search for unused parameters costs it."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import distributed

from benchmarks.speed.report import Cell, Table
from condetr.config import override
from condetr.data.batch import Batch, collate_images
from condetr.engine.config import TrainConfig
from condetr.engine.processes import launch
from condetr.engine.step import Stepper, has_idle_parameters
from condetr.optimize.machine import keep_memory
from condetr.optimize.training import memory_format, speed_up_training
from condetr.recipes.registry import recipe
from condetr.shapes import Targets

IMAGES, SIZE_HW, BOXES, NUM_CLASSES = 8, (320, 320), 7, 20
RECIPES = {
    "the recipe, with three query groups": (),
    "with denoising queries, too": ("detector.denoising_groups=3",),
}
SEARCH, NO_SEARCH = "two processes, with the search", "two processes"
ALONE = {"one process, two threads": 2, "one process, one thread": 1}


def measure(*, quick: bool) -> Table:
    """Time steps of conditional_detr_mobilenet in turn, all forms in the same two processes."""
    rows: list[tuple[Cell, ...]] = []
    headline = {}
    for title, settings in list(RECIPES.items())[: 1 if quick else None]:
        found = _in_two_processes(settings, rounds=2 if quick else 15)
        seconds, losses = found["seconds"], found["losses"]
        assert losses[SEARCH] == losses[NO_SEARCH], losses
        base = seconds["one process, one thread"]
        rows += [(title, name, 1e3 * value, value / base) for name, value in seconds.items()]
        headline[f"{title}: with the search over without"] = seconds[SEARCH] / seconds[NO_SEARCH]
        headline[f"{title}: two processes over one with two threads"] = (
            seconds[NO_SEARCH] / seconds["one process, two threads"]
        )
    return Table(
        name="processes",
        title=f"Training step of conditional_detr_mobilenet, {IMAGES} images of {SIZE_HW[0]} x {SIZE_HW[1]} in all",
        columns=("", "form", "ms", "of one process with one thread"),
        rows=rows,
        headline=headline,
        notes=[
            "two processes have one thread and half of the images each, and exchange gradients by gloo",
            "losses of all steps are the same numbers with and without the search for unused parameters",
        ],
    )


def _in_two_processes(settings: tuple[str, ...], *, rounds: int) -> dict[str, dict[str, float]]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [*torchrun, "-m", "benchmarks.speed.processes", str(out), str(rounds), *settings]
        subprocess.run(
            [sys.executable, *command],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
        )
        found: dict[str, dict[str, float]] = json.loads(out.read_text())
    return found


def _take_turns(out: Path, rounds: int, settings: list[str]) -> None:
    """Time the steps of this process; the first one writes what it found."""
    keep_memory()
    config = override(recipe("conditional_detr_mobilenet", "detector.backbone.weights=none"), settings)
    assert not has_idle_parameters(config.detector)
    cpu = torch.device("cpu")
    search = launch(config, device=cpu, has_idle_parameters=lambda: True)
    no_search = launch(config, device=cpu, has_idle_parameters=lambda: False)
    share = IMAGES // search.world_size
    mine = _batch(first=search.global_rank * share, images=share)
    whole = _batch(first=0, images=IMAGES)
    alone = Fabric(accelerator="cpu", devices=1)
    forms = {SEARCH: _steps(config, search, mine), NO_SEARCH: _steps(config, no_search, mine)}
    forms |= {name: _steps(config, alone, whole) for name in ALONE}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    losses: dict[str, float] = {}
    for _ in range(rounds + 1):
        for name, step in forms.items():
            distributed.barrier()
            if name in ALONE and search.global_rank > 0:
                continue
            torch.set_num_threads(ALONE.get(name, 1))
            began = time.perf_counter()
            losses[name] = losses.get(name, 0.0) + step()
            seconds[name].append(time.perf_counter() - began)
    if search.global_rank == 0:
        medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
        out.write_text(json.dumps({"seconds": medians, "losses": losses}))


def _steps(config: TrainConfig, fabric: Fabric, batch: Batch) -> Callable[[], float]:
    """Return what makes the next step of a training and returns its loss."""
    torch.manual_seed(0)
    detector = config.detector.build(num_classes=NUM_CLASSES, pretrained=False).train()
    detector = detector.to(memory_format=memory_format(detector, device=fabric.device))
    speed_up_training(detector)
    stepper = Stepper(detector, config=config, steps_per_epoch=1000, fabric=fabric)
    made = 0

    def step() -> float:
        nonlocal made
        outcome = stepper.step([batch], number=made, stop=False)
        made += 1
        return float(outcome.losses["loss"])

    return step


def _batch(*, first: int, images: int) -> Batch:
    """Return some of the images, which are noise, each with a few boxes."""
    pixels, targets = [], []
    for number in range(first, first + images):
        random = torch.Generator().manual_seed(number)
        pixels.append(torch.randint(0, 256, (3, *SIZE_HW), dtype=torch.uint8, generator=random))
        labels = torch.randint(0, NUM_CLASSES, (BOXES,), generator=random)
        targets.append((labels, torch.rand(BOXES, 4, generator=random) * 0.3 + 0.2))
    batch = collate_images(pixels, original_sizes_hw=[SIZE_HW] * images)
    return batch._replace(targets=Targets.of(targets))


if __name__ == "__main__":
    _take_turns(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
