"""Train, then write the run's report."""

from pathlib import Path

from rich.console import Console

from condetr.engine.config import TrainConfig
from condetr.engine.results import TrainResult
from condetr.engine.train import train as train_detector
from condetr.report.page import write_report


def train(config: TrainConfig, *, out: Path | str, resume: bool = False, console: Console | None = None) -> TrainResult:
    """Train a detector and leave weights, numbers, pictures and report.html in the run folder `out`.

    With `resume` a training that was stopped there goes on; without one there it starts. Raises InputError before
    anything is written if the data, a setting or the folder cannot be used. Progress is shown on `console`, the
    terminal by default.
    """
    result = train_detector(config, out=out, resume=resume, console=console)
    if result.is_first_process:
        write_report(result.run.path, split=result.split, detections=result.detections)
    return result
