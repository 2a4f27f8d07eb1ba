"""The training loop, in plain sight: forward, matching, loss, backward, clip, step."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import nn

from condetr.config import dump, to_yaml
from condetr.data.loader import EvalLoader, TrainLoader, eval_loader, train_loader
from condetr.data.sources import DataSplits, open_data
from condetr.engine.checkpoint import Progress, restore_checkpoint, save_checkpoint
from condetr.engine.config import TrainConfig
from condetr.engine.ema import Ema
from condetr.engine.evaluate import Evaluation, evaluate
from condetr.engine.initial import initialise
from condetr.engine.launch import launch
from condetr.engine.log import Display, Means, MetricsLogger, make_loggers, require_loggers, show_data, write_metrics
from condetr.engine.optim import Schedule, set_learning_rates
from condetr.engine.results import TrainResult, write_results
from condetr.engine.run_folder import RunFolder
from condetr.errors import InputError
from condetr.inference.model_folder import load_model, save_model
from condetr.losses.criterion import SetCriterion
from condetr.shapes import Batch

MAX_SKIPPED_IN_A_ROW = 50
"""Steps with a gradient that is not finite, after which a training is given up."""


def train(config: TrainConfig, *, out: Path | str, resume: bool = False, console: Console | None = None) -> TrainResult:
    """Train a detector, evaluate it, and leave everything in the run folder `out`.

    With `resume` a training that was stopped there goes on; without one there it starts. Raises InputError before
    anything is written if the data, a setting or the folder cannot be used. Progress is shown on `console`, the
    terminal by default.
    """
    run = RunFolder(Path(out))
    run.require_usable(resume=resume)
    require_loggers(config.loggers)
    splits = _open_data(config)
    fabric = launch(precision=config.precision)
    console = (console or Console()) if fabric.is_global_zero else Console(quiet=True)
    training = Training(config, run=run, splits=splits, fabric=fabric, console=console)
    if resume and run.last_checkpoint.is_file():
        training.resume()
    training.announce()
    return training.fit()


class Training:
    """Everything that takes part in one training."""

    def __init__(
        self, config: TrainConfig, *, run: RunFolder, splits: DataSplits, fabric: Fabric, console: Console
    ) -> None:
        self.config = config
        self.run = run
        self.splits = splits
        self.fabric = fabric
        self.console = console
        self.label_map = splits.train.label_map
        self.loader, self.val_loader, self.accumulate = _loaders(config, splits=splits, fabric=fabric)
        self.steps_per_epoch = len(self.loader) // self.accumulate
        torch.manual_seed(config.seed)
        detector = config.detector.build(num_classes=len(self.label_map), pretrained=config.init_from is None)
        self.reinitialised = initialise(detector, config.init_from) if config.init_from else ()
        detector = detector.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.criterion: SetCriterion = config.criterion.build(scores=config.detector.scores)
        self.schedule: Schedule = config.schedule.build(steps_per_epoch=self.steps_per_epoch, epochs=config.epochs)
        self.ema: Ema | None = config.ema.build(detector) if config.ema else None
        self.detector = detector
        self.model, self.optimizer = fabric.setup(detector, config.optimizer.build(detector))
        self.progress = Progress()
        self.skipped_in_a_row = 0

    def resume(self) -> None:
        """Go on where the run folder's last checkpoint is."""
        self.progress = restore_checkpoint(
            self.run.last_checkpoint,
            detector=self.detector,
            optimizer=self.optimizer.optimizer,
            ema=self.ema,
            label_map=self.label_map,
            settings=dump(self.config),
        )
        self.console.print(f"resuming after epoch {self.progress.epoch}, step {self.progress.step}")

    def announce(self) -> None:
        """Say what will be trained on what, before the first step."""
        counts = {"training": len(self.splits.train), "validation": len(self.splits.val)}
        show_data(self.console, label_map=self.label_map, counts=counts, findings=self.splits.findings)
        for name in self.reinitialised:
            self.console.print(f"drawn anew: {name}", highlight=False)
        self.console.print(
            f"{self.config.recipe}: {self.config.epochs} epochs of {self.steps_per_epoch} steps, "
            f"{self.config.data.batch_size} images a step ({self.fabric.world_size} process(es) x {self.accumulate} "
            f"accumulated x {self.loader.batch_size}), lr {self.config.optimizer.lr:g}, {self._precision()} on "
            f"{self.fabric.device.type}",
            highlight=False,
            soft_wrap=True,
        )

    def fit(self) -> TrainResult:
        """Run the remaining epochs, then evaluate the best model once more and write the results."""
        if self.fabric.is_global_zero:
            self.run.create()
            self.run.config.write_text(to_yaml(self.config))
            self.label_map.save(self.run.labels)
        loggers = make_loggers(self.config.loggers, run=self.run) if self.fabric.is_global_zero else []
        done = self.progress.step
        with Display(
            epochs=self.config.epochs, steps_per_epoch=self.steps_per_epoch, done_steps=done, console=self.console
        ) as display:
            while self.progress.epoch < self.config.epochs and not self._is_out_of_patience():
                self._epoch(display, loggers=loggers)
            self.fabric.barrier()  # the first process has written it
            best = load_model(self.run.best).detector.to(self.fabric.device)
            evaluation = self._evaluate(best, display=display)
        return write_results(
            self.run,
            evaluation=evaluation,
            config=self.config,
            splits=self.splits,
            progress=self.progress,
            parameters=sum(parameter.numel() for parameter in best.parameters()),
        )

    def _epoch(self, display: Display, *, loggers: list[MetricsLogger]) -> None:
        """Train one epoch, evaluate if it is due, record both."""
        began, epoch = time.perf_counter(), self.progress.epoch
        means = Means()
        lr = 0.0
        for micro_batches in _grouped(self.loader.epoch(epoch), size=self.accumulate):
            torch.manual_seed(hash((self.config.seed, self.progress.step, self.fabric.global_rank)) % 2**63)
            lr = set_learning_rates(self.optimizer, self.schedule(self.progress.step))
            self._step(micro_batches, means=means)
            if self.progress.step % 10 == 0:
                images = means.count * self.config.data.batch_size
                speed = images / (time.perf_counter() - began)
                display.step(step=self.progress.step, means=means.read(), lr=lr, images_per_second=speed)
        trained = time.perf_counter() - began
        self.progress.epoch += 1
        row = {
            "epoch": self.progress.epoch,
            "step": self.progress.step,
            "seconds": 0.0,
            "images_per_second": self.steps_per_epoch * self.config.data.batch_size / trained,
            "lr": lr,
            **means.read(),
            **self._evaluate_if_due(display),
        }
        self.progress.seconds += time.perf_counter() - began
        row["seconds"] = self.progress.seconds
        self.progress.rows.append(row)
        display.epoch(row)
        if self.fabric.is_global_zero:
            self._record(row, loggers=loggers)

    def _step(self, micro_batches: list[Batch], *, means: Means) -> None:
        """Make one optimizer step."""
        for index, batch in enumerate(micro_batches):
            batch = self.fabric.to_device(batch)
            num_boxes = self._num_boxes(batch)
            with self.fabric.no_backward_sync(self.model, enabled=index < len(micro_batches) - 1):
                output = self.model(batch.images, batch.is_padding)
                losses = self.criterion(output, batch.targets, num_boxes=num_boxes)
                self.fabric.backward(losses["loss"] / len(micro_batches))
        norm = self._clip()
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
            means.add({**losses, "grad_norm": norm})
            self.skipped_in_a_row = 0
        else:
            self._skip()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update_parameters(self.detector)
        self.progress.step += 1
        self.progress.images += self.config.data.batch_size

    def _clip(self) -> torch.Tensor:
        """Return the norm of the gradient, which is clipped if the settings say so."""
        max_norm = self.config.optimizer.clip_norm
        limit = float("inf") if max_norm is None else max_norm
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        assert norm is not None
        return norm

    def _skip(self) -> None:
        """Count a step whose gradient is not finite, and give up after too many in a row."""
        self.progress.skipped_steps += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise InputError(
                f"the gradient was not finite for {MAX_SKIPPED_IN_A_ROW} steps up to step {self.progress.step}; "
                f"the last good state is {self.run.last_checkpoint}: try a smaller optimizer.lr or precision=32-true"
            )

    def _num_boxes(self, batch: Batch) -> float:
        """Return the number of targets per process, at least 1 (DETR's normaliser)."""
        count = torch.tensor(float(sum(len(target.labels) for target in batch.targets)), device=self.fabric.device)
        if self.fabric.world_size > 1:
            count = self.fabric.all_reduce(count, reduce_op="mean")  # type: ignore[assignment]
        return max(float(count), 1.0)

    def _evaluate_if_due(self, display: Display) -> dict[str, float | None]:
        is_last = self.progress.epoch == self.config.epochs
        if self.progress.epoch % self.config.evaluate_every and not is_last:
            return {"AP": None, "AP50": None, "AP75": None}
        detector = self.detector if self.ema is None else self.ema.module
        results = self._evaluate(detector, display=display).results
        self._keep_best(detector, ap=results.AP)
        return {"AP": results.AP, "AP50": results.AP50, "AP75": results.AP75}

    def _evaluate(self, detector: nn.Module, *, display: Display) -> Evaluation:
        seen = 0

        def progress(images: int) -> None:
            nonlocal seen
            seen += images
            display.evaluating(seen * self.fabric.world_size, len(self.splits.val))

        return evaluate(
            detector,
            split=self.splits.val,
            loader=self.val_loader,
            scores=self.config.detector.scores,
            device=self.fabric.device,
            progress=progress,
        )

    def _keep_best(self, detector: nn.Module, *, ap: float) -> None:
        patience = self.config.early_stopping
        if ap <= self.progress.best_ap + (patience.min_delta if patience and self.progress.best_epoch else 0.0):
            self.progress.evaluations_since_best += 1
            return
        self.progress.best_ap, self.progress.best_epoch = ap, self.progress.epoch
        self.progress.evaluations_since_best = 0
        if self.fabric.is_global_zero:
            save_model(
                self.run.best,
                detector,
                detector_config=self.config.detector,
                transform=self.config.data.transform,
                label_map=self.label_map,
            )

    def _is_out_of_patience(self) -> bool:
        stopping = self.config.early_stopping
        return stopping is not None and self.progress.evaluations_since_best >= stopping.patience

    def _record(self, row: dict[str, float | int | None], *, loggers: list[MetricsLogger]) -> None:
        """Write the epoch to disk and to the loggers."""
        write_metrics(self.run, self.progress.rows)
        numbers = {name: float(value) for name, value in row.items() if value is not None}
        for logger in loggers:
            logger.log_metrics(numbers, step=self.progress.step)
        save_checkpoint(
            self.run.last_checkpoint,
            detector=self.detector,
            optimizer=self.optimizer.optimizer,
            ema=self.ema,
            progress=self.progress,
            label_map=self.label_map,
            settings=dump(self.config),
        )

    def _precision(self) -> str:
        return str(self.fabric._precision.precision)


def _open_data(config: TrainConfig) -> DataSplits:
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


def _loaders(config: TrainConfig, *, splits: DataSplits, fabric: Fabric) -> tuple[TrainLoader, EvalLoader, int]:
    """Return the loaders of this process, and how many of its batches make an optimizer step."""
    data = config.data
    per_process, rest = divmod(data.batch_size, fabric.world_size)
    micro = data.micro_batch_size or per_process
    if rest or micro == 0 or per_process % micro:
        raise InputError(
            f"data.batch_size {data.batch_size} must be a multiple of data.micro_batch_size {data.micro_batch_size} "
            f"times the number of processes {fabric.world_size}"
        )
    share = {"rank": fabric.global_rank, "world_size": fabric.world_size}
    training = train_loader(
        splits.train,
        data.transform.build_train(),
        batch_size=micro,
        seed=config.seed,
        workers=data.workers,
        group_by_aspect=data.group_by_aspect,
        cache_mb=data.cache_mb,
        **share,
    )
    if len(training) < per_process // micro:
        raise InputError(
            f"{len(splits.train)} training images do not fill one step of data.batch_size {data.batch_size}: "
            "set a smaller one"
        )
    validation = eval_loader(
        splits.val,
        data.transform.build_eval(),
        batch_size=data.eval_batch_size,
        workers=data.workers,
        cache_mb=data.cache_mb,
        **share,
    )
    return training, validation, per_process // micro


def _grouped(batches: Iterator[Batch], *, size: int) -> Iterator[list[Batch]]:
    """Yield `size` batches at a time; an incomplete last group is left out."""
    while len(group := list(islice(batches, size))) == size:
        yield group
