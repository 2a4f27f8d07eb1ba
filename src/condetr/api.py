"""The Python interface besides `condetr.load`: train a detector and write its report, and evaluate a model."""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from condetr.data.dataset import Split
from condetr.data.loader import eval_loader
from condetr.data.sources import DataSplits, open_data
from condetr.engine.callbacks import Callback
from condetr.engine.config import TrainConfig
from condetr.engine.processes import training_device
from condetr.engine.results import Evaluation, TrainResult, evaluate_shares
from condetr.engine.train import train as train_on
from condetr.errors import InputError, InputWarning
from condetr.inference.predictor import Predictor
from condetr.interop.loading import find_source, load, read
from condetr.metrics.coco import CocoResults
from condetr.recipes.chosen import chosen_settings, run_folder
from condetr.report.page import write_report
from condetr.runs.folder import RunFolder
from condetr.runs.loggers import require_loggers
from condetr.runs.part import in_classes_of, open_part


def train(
    config: TrainConfig | Path | str | None = None,
    *,
    data: Path | str | None = None,
    out: Path | str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    train_split: str | None = None,
    val_split: str | None = None,
    val_fraction: float | None = None,
    init_from: Path | str | None = None,
    settings: Sequence[str] = (),
    resume: bool | Literal["auto"] = False,
    device: str | None = None,
    console: Console | None = None,
    callbacks: Iterable[Callback] = (),
) -> TrainResult:
    """Train a detector and write weights, metrics and report.html to the run folder `out`.

    `config` is the name of a recipe, a YAML file of settings, or settings that `condetr.recipe` made; without it the
    doctor's advice for `data` is followed, and printed. The other names are those of the command line: `settings` are
    assignments such as "ema={}", `out` is by default runs/RECIPE, or runs/DATA without a recipe.

    The result holds the COCO metrics of the best model (`results`) and other facts about the run (`facts`).
    With `resume`, a training that was stopped there continues, on any device; if there is none, a new one starts.
    `device` is for example cpu, cuda or cuda:1, by default the GPU if there is one. Progress is shown on `console`, the
    terminal by default. `callbacks` are called after each step, epoch and evaluation, see `condetr.engine.callbacks`.

    Raises InputError before anything is written if the data, a setting, the device or the folder cannot be used, and
    RunError if a full disk, a process that died or hangs, or a loss that stays infinite ends the training. SIGTERM and
    Ctrl-C save a checkpoint and raise SystemExit(143) and KeyboardInterrupt.
    """
    if not isinstance(config, TrainConfig | Path | str | None):
        raise InputError(
            f"a training needs settings, got {config!r}: give the name of a recipe, or what condetr.recipe returns, "
            'such as condetr.recipe("conditional_detr_tiny", "data.path=shapes")'
        )
    if minutes is not None and epochs is not None:
        raise InputError("minutes plan how many epochs fit: give --minutes or --epochs, not both")
    folder = run_folder(config, data=data) if out is None else Path(out)
    given = {
        "data": data if data is None else str(data),
        "train_split": train_split,
        "val_split": val_split,
        "val_fraction": val_fraction,
        "batch_size": batch_size,
        "lr": lr,
        "init_from": init_from if init_from is None else str(init_from),
        "epochs": epochs,
        "minutes": minutes,
    }
    chosen = chosen_settings(
        config,
        folder=folder,
        resume=bool(resume),
        options=given,
        assignments=settings,
        console=console or Console(),
    )
    result = fit(chosen, out=folder, resume=bool(resume), device=device, console=console, callbacks=callbacks)
    if result.is_first_process:
        write_report(result.run.path, split=result.split, detections=result.detections, device=device)
    return result


def fit(
    config: TrainConfig,
    *,
    out: Path | str,
    resume: bool = False,
    device: str | None = None,
    console: Console | None = None,
    callbacks: Iterable[Callback] = (),
) -> TrainResult:
    """Train as `train` does, without a report."""
    began = time.perf_counter()
    run = RunFolder(Path(out))
    run.require_usable(resume=resume)
    chosen = None if device is None else training_device(device)
    require_loggers(config.loggers)
    splits = open_splits(config)
    is_resumed = resume and run.last_checkpoint.is_file()
    initial = read(find_source(config.init_from)) if config.init_from and not is_resumed else None
    return train_on(
        config,
        run,
        splits=splits,
        initial=initial,
        resume=resume,
        device=chosen,
        console=console,
        began=began,
        callbacks=callbacks,
    )


def open_splits(config: TrainConfig) -> DataSplits:
    """Open the data that the settings name; raises InputError if they name none, or it cannot be used."""
    data = config.data
    if data.path is None:
        raise InputError("no data to train on: name a folder or file with --data (or the setting data.path)")
    return open_data(
        Path(data.path),
        train_split=data.train_split,
        val_split=data.val_split,
        val_fraction=data.val_fraction,
        seed=config.seed,
        skip_unreadable=data.skip_unreadable,
    )


def evaluate(
    weights: Path | str,
    data: Path | str,
    *,
    split: str | None = None,
    batch_size: int = 1,
    workers: int = 0,
    skip_unreadable: bool = False,
    device: str | torch.device | None = None,
) -> CocoResults:
    """Return the COCO metrics of a model on one split of a data set, overall and for each class.

    `weights` are anything that `condetr.load` takes, `data` is a folder or the file that describes it. The default
    `split` is the validation split, otherwise the test split, otherwise the images that a run held out. The default
    `device` is the GPU if there is one. With a `batch_size` above 1, padding changes the metrics a little.
    `skip_unreadable` leaves out images that are missing or broken. Warns if the run was trained on some of the images.
    Raises InputError if weights or data cannot be used, or if the data has classes that the model does not know.
    """
    predictor = load(weights, device=device)
    part = open_part(data, weights=weights, split=split, skip_unreadable=skip_unreadable)
    if part.trained_on:
        warnings.warn(f"evaluating {part.title(weights=weights, data=data)}", InputWarning, stacklevel=2)
    truth = in_classes_of(predictor.label_map, part.split, weights=weights, data=data)
    return evaluate_predictor(predictor, truth, batch_size=batch_size, workers=workers).results


def evaluate_predictor(
    predictor: Predictor,
    split: Split,
    *,
    batch_size: int = 1,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Return the COCO metrics of a loaded model, and its detections.

    `progress` is called after each batch with its number of images.
    """
    return evaluate_shares(
        predictor.detector,
        split=split,
        loader=eval_loader(split, predictor.transform.build_eval(), batch_size=batch_size, workers=workers),
        device=predictor.device,
        progress=progress,
    )
