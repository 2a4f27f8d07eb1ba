"""What a training leaves in its run folder while it goes on; only the first of several processes writes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from condetr.config import to_yaml
from condetr.data.sources import DataSplits
from condetr.detectors.training_aids import without_training_aids
from condetr.engine.checkpoint import Progress, Row, save_checkpoint
from condetr.engine.config import TrainConfig
from condetr.engine.display import Means, write_metrics
from condetr.engine.optim import Ema
from condetr.inference.model_folder import save_model
from condetr.runs.folder import RunFolder
from condetr.runs.images import ImagesUsed
from condetr.runs.loggers import MetricsLogger, running_loggers
from condetr.storage.atomic import replaced_file, write_text


class Keeper:
    """Writes settings, metrics, checkpoints and the best model."""

    def __init__(
        self,
        run: RunFolder,
        *,
        config: TrainConfig,
        splits: DataSplits,
        detector: nn.Module,
        optimizer: torch.optim.Optimizer,
        ema: Ema | None,
        progress: Progress,
        is_first_process: bool,
    ) -> None:
        self.run = run
        self.config = config
        self.splits = splits
        self.detector = detector
        self.optimizer = optimizer
        self.ema = ema
        self.progress = progress
        self.is_first_process = is_first_process
        self.loggers: list[MetricsLogger] = []
        self.saved_step = progress.step
        self._saved_at = self._counted_at = time.perf_counter()

    @property
    def averaged(self) -> nn.Module:
        """The detector that is evaluated and exported: the average of the weights if there is one."""
        return self.detector if self.ema is None else self.ema.module

    @property
    def last_state(self) -> str:
        """Where the last checkpoint is, in words."""
        return f"step {self.saved_step} in {self.run.last_checkpoint}" if self.saved_step else "the start"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make the folder, say what is trained, and run the loggers while the block lasts."""
        if not self.is_first_process:
            yield
            return
        self.run.create()
        with replaced_file(self.run.config) as draft:
            write_text(draft, to_yaml(self.config))
        with replaced_file(self.run.labels) as draft:
            self.splits.train.label_map.save(draft)
        with replaced_file(self.run.images) as draft:
            ImagesUsed.of(self.splits).save(draft)
        with running_loggers(self.config.loggers, run=self.run, step=self.progress.step) as self.loggers:
            yield

    def is_due(self) -> bool:
        """Return whether the last checkpoint is as old as the settings allow."""
        return time.perf_counter() - self._saved_at >= 60 * self.config.checkpoint_minutes

    def save(self, means: Means) -> None:
        """Write a checkpoint in the middle of an epoch whose losses are `means` so far, or at the end of one."""
        self.count_time()
        self._saved_at = time.perf_counter()
        if not self.is_first_process:
            return
        self.progress.epoch_sums = {name: float(total) for name, total in means.sums.items()}
        self.progress.epoch_count = means.count
        save_checkpoint(
            self.run.last_checkpoint,
            detector=self.detector,
            optimizer=self.optimizer,
            ema=self.ema,
            progress=self.progress,
            splits=self.splits,
            config=self.config,
        )
        self.saved_step = self.progress.step

    def record(self, row: Row) -> None:
        """Write the metrics of a finished epoch to disk and to the loggers."""
        if not self.is_first_process:
            return
        write_metrics(self.run, self.progress.rows)
        numbers = {name: float(value) for name, value in row.items() if value is not None}
        for logger in self.loggers:
            logger.log_metrics(numbers, step=self.progress.step)

    def keep_best(self, *, ap: float, epoch: int) -> None:
        """Write the best model, which is the latest one as long as there is nothing to measure AP on."""
        progress, stopping = self.progress, self.config.early_stopping
        least_rise = stopping.min_delta if stopping and progress.best_epoch else 0.0
        progress.evaluations_since_best += 1
        if not ap <= progress.patience_ap + least_rise:
            progress.patience_ap, progress.evaluations_since_best = ap, 0
        if ap <= progress.best_ap:
            return
        progress.best_ap, progress.best_epoch = ap, epoch
        if self.is_first_process:
            label_map = self.splits.train.label_map
            detector, detector_config = without_training_aids(
                self.averaged, config=self.config.detector, num_classes=len(label_map)
            )
            save_model(
                self.run.best,
                detector,
                detector_config=detector_config,
                transform=self.config.data.transform,
                label_map=label_map,
            )

    def count_time(self) -> None:
        """Add the time since it was last counted to that of the training."""
        now = time.perf_counter()
        self.progress.seconds += now - self._counted_at
        self._counted_at = now
