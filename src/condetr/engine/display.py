"""The output of a training while it runs: the display and metrics.csv."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from condetr.data.dataset import Finding
from condetr.data.sources import DataSplits
from condetr.engine.checkpoint import Row
from condetr.engine.config import TrainConfig
from condetr.engine.loaders import Loaders
from condetr.engine.processes import resolve_precision
from condetr.runs.folder import RunFolder
from condetr.storage.atomic import replaced_file
from condetr.words import ap_text, counted

BEFORE_LOSSES, AFTER_LOSSES = ("epoch", "step", "lr", "loss"), ("grad_norm", "AP", "AP50", "AP75")
"""The first and last columns of metrics.csv; the criterion's loss terms are between them. A run that was stopped and
resumed has bit for bit the same values."""

TIMING = ("epoch", "step", "seconds", "images_per_second")
"""Columns of timing.csv, which depend on the clock."""


class Display(AbstractContextManager["Display"]):
    """The progress bar of a training on the terminal, and the lines above it."""

    def __init__(
        self, *, steps: int, steps_per_epoch: int, done_steps: int, best_ap: float | None, console: Console
    ) -> None:
        self.console = console
        self.steps_per_epoch = steps_per_epoch
        self.epochs = math.ceil(steps / steps_per_epoch)
        self.best_ap = best_ap
        self._progress = Progress(
            TextColumn("[bold]epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("train", total=steps, completed=done_steps, epoch="", text="starting")

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def length(self, steps: int) -> None:
        """Change the number of steps of the whole training."""
        self.epochs = math.ceil(steps / self.steps_per_epoch)
        self._progress.update(self._task, total=steps)

    def say(self, sentence: str) -> None:
        """Print a line above the progress bar."""
        self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def data(self, splits: DataSplits, *, findings: Iterable[Finding]) -> None:
        """Print the label map, the sizes of the splits and the findings about the data."""
        table = Table("id in file", "training id", "name", title="Classes", title_justify="left")
        for training_id, category in enumerate(splits.train.label_map.categories):
            table.add_row(str(category.dataset_id), str(training_id), category.name)
        self.console.print(table)
        counts = {"training": len(splits.train), "validation": len(splits.val)}
        self.say("  ".join(f"{name}: {counted(count, 'image')}" for name, count in counts.items()))
        for finding in findings:
            self.console.print(finding.sentence, highlight=False, markup=False)

    def plan(self, config: TrainConfig, loaders: Loaders, *, fabric: Fabric, is_planned: bool) -> None:
        """Print a line about the length of the training, if that is known, and its batches."""
        length = _length_text(config, steps_per_epoch=loaders.steps_per_epoch)
        self.say(
            f"{config.recipe}: {length if is_planned else f'{config.minutes:g} minutes'}, "
            f"{batch_text(config.data.batch_size, processes=fabric.world_size, accumulated=loaders.accumulate)}, "
            f"lr {config.optimizer.lr:g}, {resolve_precision(config.precision, device=fabric.device)} on "
            f"{fabric.device.type}"
        )

    def step(self, *, step: int, means: Mapping[str, float], lr: float, images_per_second: float) -> None:
        """Show the progress of the training."""
        epoch = (step - 1) // self.steps_per_epoch + 1
        losses = "  ".join(f"{name.removeprefix('loss_')[:5]} {value:.3f}" for name, value in means.items())
        text = f"{losses}  lr {lr:.1e}  {images_per_second:.0f} img/s  AP {ap_text(self.best_ap)}"
        self._progress.update(self._task, completed=step, epoch=f"{epoch}/{self.epochs}", text=text)

    def evaluating(self, done: int, total: int) -> None:
        """Show the progress of an evaluation."""
        self._progress.update(self._task, text=f"evaluating {done} of {counted(total, 'image')}")

    def epoch(self, row: Row) -> None:
        """Print a line about a finished epoch."""
        self._progress.update(self._task, completed=row["step"], epoch=f"{row['epoch']}/{self.epochs}")
        ap = row.get("AP")
        if ap is not None:
            self.best_ap = ap if self.best_ap is None else max(self.best_ap, ap)
        loss = "-" if row["loss"] is None else f"{row['loss']:.3f}"
        speed = "-" if row["images_per_second"] is None else f"{row['images_per_second']:.0f}"
        scores = "" if row.get("AP") is None else f"  AP {ap_text(row['AP'])}  AP50 {ap_text(row['AP50'])}"
        self.console.print(
            f"epoch {row['epoch']:>3}/{self.epochs}  step {row['step']}  {row['seconds']:.0f} s  "
            f"{speed} img/s  lr {row['lr']:.1e}  loss {loss}{scores}",
            highlight=False,
            soft_wrap=True,
        )
        self.console.file.flush()


class Means:
    """Running means of losses, kept on the device until they are read; they can start from given sums."""

    def __init__(self, sums: Mapping[str, float] | None = None, *, count: int = 0) -> None:
        self.sums: dict[str, Tensor] = {name: torch.tensor(value) for name, value in (sums or {}).items()}
        self.count = count

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add one step's values."""
        for name, value in losses.items():
            self.sums[name] = value.detach() + self.sums.get(name, 0.0)
        self.count += 1

    def read(self) -> dict[str, float]:
        """Return the means so far."""
        return {name: float(total) / self.count for name, total in self.sums.items()}


def write_metrics(run: RunFolder, rows: Sequence[Row]) -> None:
    """Write metrics.csv and timing.csv with all epochs so far; a resumed run continues them without a gap."""
    terms = dict.fromkeys(name for row in rows for name in row if name.startswith("loss_"))
    for path, columns in ((run.metrics, (*BEFORE_LOSSES, *terms, *AFTER_LOSSES)), (run.timing, TIMING)):
        with replaced_file(path) as draft, draft.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)


def batch_text(images: int, *, processes: int, accumulated: int) -> str:
    """Say how many images a step uses and, if it takes several passes or processes, how they are divided."""
    factors = [
        *([counted(processes, "process", "processes")] if processes > 1 else []),
        *([counted(accumulated, "batch", "batches")] if accumulated > 1 else []),
    ]
    at_once = counted(images // (processes * accumulated), "image")
    return f"{counted(images, 'image')} a step" + (f" ({' x '.join([*factors, at_once])})" if factors else "")


def _length_text(config: TrainConfig, *, steps_per_epoch: int) -> str:
    total, per_epoch = config.total_steps(steps_per_epoch), counted(steps_per_epoch, "step")
    epochs = counted(math.ceil(total / steps_per_epoch), "epoch")
    return f"{epochs} of {per_epoch}" + ("" if total % steps_per_epoch == 0 else f", {counted(total, 'step')} in all")


def _cell(value: float | int | None) -> str:
    """Return a float with all its digits, so that equal cells mean equal numbers."""
    return "" if value is None else repr(value)
