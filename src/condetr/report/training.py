"""Train, then write the run's report."""

from pathlib import Path

from rich.console import Console

from condetr.engine.config import TrainConfig
from condetr.engine.results import TrainResult
from condetr.engine.train import train as train_detector
from condetr.errors import InputError
from condetr.report.page import write_report


def train(
    config: TrainConfig,
    *,
    out: Path | str,
    resume: bool = False,
    device: str | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Train a detector and leave weights, numbers, pictures and report.html in the run folder `out`.

    `condetr.recipe` makes the settings. With `resume` a training that was stopped there goes on, on any device; without
    one there it starts. `device` is such as cpu, cuda or cuda:1, by default the GPU if there is one. Raises InputError
    before anything is written if the data, a setting, the device or the folder cannot be used. Progress is shown on
    `console`, the terminal by default.
    """
    if not isinstance(config, TrainConfig):
        raise InputError(
            f"a training needs settings, got {config!r}: condetr.recipe returns those of a recipe, such as "
            'condetr.recipe("conditional_detr_tiny", "data.path=shapes")'
        )
    result = train_detector(config, out=out, resume=resume, device=device, console=console)
    if result.is_first_process:
        write_report(result.run.path, split=result.split, detections=result.detections, device=device)
    return result
