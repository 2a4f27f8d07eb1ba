"""Files that a training writes to its run folder while it runs; only the first of several processes writes."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from condetr.config import to_yaml
from condetr.data.batch import Batch
from condetr.data.sources import DataSplits
from condetr.detectors.detector import Detector, without_training_aids
from condetr.detectors.registry import DetectorConfig
from condetr.engine.checkpoint import Progress, Row, save_checkpoint
from condetr.engine.config import TrainConfig
from condetr.engine.display import Means, write_metrics
from condetr.engine.results import Evaluation
from condetr.engine.step import Stepper
from condetr.inference.drawing import draw_batch
from condetr.inference.model_folder import save_model
from condetr.runs.folder import RunFolder
from condetr.runs.images import ImagesUsed
from condetr.runs.loggers import MetricsLogger, running_loggers
from condetr.shapes import Detections
from condetr.storage.atomic import replaced_file, write_text

LARGEST_WH = (1600, 1200)
"""Of the picture of the first batch, in pixels."""


class Recorder:
    """Writes settings, metrics, checkpoints and the best model."""

    def __init__(
        self,
        run: RunFolder,
        *,
        config: TrainConfig,
        splits: DataSplits,
        stepper: Stepper,
        progress: Progress,
        best: dict[int, Detections] | None,
        is_first_process: bool,
    ) -> None:
        self.run = run
        self.config = config
        self.splits = splits
        self.stepper = stepper
        self.progress = progress
        self.best = best
        """Detections of the best model so far in the validation images; None before the first evaluation."""
        self.is_first_process = is_first_process
        self.loggers: list[MetricsLogger] = []
        self.saved_step = progress.step
        self._saved_at = self._counted_at = time.perf_counter()

    def draw(self, batch: Batch) -> None:
        """Save a picture of the first batch."""
        if self.is_first_process:
            picture = draw_batch(batch, label_map=self.splits.train.label_map)
            picture.thumbnail(LARGEST_WH)
            with replaced_file(self.run.first_batch) as draft:
                picture.save(draft, format="JPEG", quality=85)

    @property
    def last_state(self) -> str:
        """Where the last checkpoint is, in words."""
        return f"step {self.saved_step} in {self.run.last_checkpoint}" if self.saved_step else "the start"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Create the folder, write settings, labels and images, and run the loggers inside the block."""
        if not self.is_first_process:
            yield
            return
        self.run.create()
        self.write_config(self.config)
        with replaced_file(self.run.labels) as draft:
            self.splits.train.label_map.save(draft)
        with replaced_file(self.run.images) as draft:
            ImagesUsed.of(self.splits).save(draft)
        with running_loggers(self.config.loggers, run=self.run, step=self.progress.step) as self.loggers:
            yield

    def write_config(self, config: TrainConfig) -> None:
        """Write the settings, which change when the length of the training is planned."""
        self.config = config
        if self.is_first_process:
            with replaced_file(self.run.config) as draft:
                write_text(draft, to_yaml(config))

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
            self.stepper,
            progress=self.progress,
            best=self.best,
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

    def keep_best(self, evaluation: Evaluation, *, epoch: int) -> None:
        """Write the model if it is the best so far, or the last is to be kept; without AP, it counts as the best."""
        progress, stopping, ap = self.progress, self.config.early_stopping, evaluation.results.AP
        least_rise = stopping.min_delta if stopping and progress.best_epoch else 0.0
        progress.evaluations_since_best += 1
        if not ap <= progress.patience_ap + least_rise:
            progress.patience_ap, progress.evaluations_since_best = ap, 0
        if ap <= progress.best_ap and self.config.keep == "best":
            return
        progress.best_ap, progress.best_epoch, self.best = ap, epoch, evaluation.detections
        if self.is_first_process:
            detector, config = self._kept()
            threshold = evaluation.results.threshold
            save_model(
                self.run.best,
                detector,
                detector_config=config,
                transform=self.config.data.transform,
                label_map=self.splits.train.label_map,
                threshold=None if math.isnan(threshold) else threshold,
            )

    def num_parameters(self) -> int:
        """Return the number of parameters of the exported detector."""
        detector, _ = self._kept()
        return sum(parameter.numel() for parameter in detector.parameters())

    def _kept(self) -> tuple[Detector, DetectorConfig]:
        num_classes = len(self.splits.train.label_map)
        return without_training_aids(self.stepper.averaged, config=self.config.detector, num_classes=num_classes)

    def count_time(self) -> None:
        """Add the time since the last call to the training time."""
        now = time.perf_counter()
        self.progress.seconds += now - self._counted_at
        self._counted_at = now
