"""The training loop, in plain sight: forward, matching, loss, backward, clip, step."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from condetr.data.batch import Batch
from condetr.data.sources import DataSplits
from condetr.engine import watch
from condetr.engine.checkpoint import Progress, Row, restore_checkpoint
from condetr.engine.config import TrainConfig
from condetr.engine.display import METRICS, Display, Means, batch_text, show_data
from condetr.engine.evaluate import Evaluation, evaluate_shares
from condetr.engine.initial import initialise
from condetr.engine.interrupt import StopRequest
from condetr.engine.loaders import data_findings, make_loaders, open_splits
from condetr.engine.nonfinite import SkippedSteps
from condetr.engine.optim import Ema, Schedule, set_learning_rates
from condetr.engine.processes import (
    agree,
    average_statistics,
    boxes_per_process,
    launch,
    lost_processes_named,
    resolve_precision,
    training_device,
)
from condetr.engine.recorder import Keeper
from condetr.engine.results import TrainResult, write_results
from condetr.inference.model_folder import load_model
from condetr.losses.criterion import LossReport, SetCriterion
from condetr.optimize.layout import memory_format
from condetr.optimize.training import merge_frozen_norms, quicken
from condetr.runs.folder import RunFolder
from condetr.runs.lock import locked
from condetr.runs.loggers import require_loggers
from condetr.words import counted


def train(
    config: TrainConfig,
    *,
    out: Path | str,
    resume: bool = False,
    device: str | None = None,
    console: Console | None = None,
) -> TrainResult:
    """Train a detector, evaluate it, and leave everything in the run folder `out`.

    With `resume` a training that was stopped there goes on, on any device; without one there it starts. `device` is
    such as cpu, cuda or cuda:1, by default the GPU if there is one. Raises InputError before anything is written if the
    data, a setting, the device or the folder cannot be used, and RunError if a full disk, a process that died or hangs,
    or a loss that stays infinite ends the training. SIGTERM and Ctrl-C save a checkpoint and raise SystemExit(143) and
    KeyboardInterrupt. Progress is shown on `console`, the terminal by default.
    """
    run = RunFolder(Path(out))
    run.require_usable(resume=resume)
    chosen = None if device is None else training_device(device)
    require_loggers(config.loggers)
    splits = open_splits(config)
    fabric = launch(precision=config.precision, timeout_minutes=config.process_timeout_minutes, device=chosen)
    console = (console or Console()) if fabric.is_global_zero else Console(quiet=True)
    with (
        lost_processes_named(checkpoint=run.last_checkpoint),
        locked(run, resume=resume, is_first_process=fabric.is_global_zero, broadcast=fabric.broadcast),
    ):
        resume = resume and run.last_checkpoint.is_file()
        training = Training(config, run=run, splits=splits, fabric=fabric, console=console, resume=resume)
        training.announce()
        return training.fit()


class Training:
    """Everything that takes part in one training."""

    def __init__(
        self,
        config: TrainConfig,
        *,
        run: RunFolder,
        splits: DataSplits,
        fabric: Fabric,
        console: Console,
        resume: bool = False,
    ) -> None:
        self.config = config
        self.run = run
        self.splits = splits
        self.fabric = fabric
        self.console = console
        self.label_map = splits.train.label_map
        self.loaders = make_loaders(config, splits=splits, rank=fabric.global_rank, world_size=fabric.world_size)
        self.steps_per_epoch = self.loaders.steps_per_epoch
        torch.manual_seed(config.seed)
        starts_bare = config.init_from is None and not resume
        detector = config.detector.build(num_classes=len(self.label_map), pretrained=starts_bare)
        self.reinitialised = (
            initialise(detector, config.init_from, label_map=self.label_map) if config.init_from and not resume else ()
        )
        layout = memory_format(detector, device=fabric.device)
        detector = detector.to(fabric.device, memory_format=layout)  # type: ignore[call-overload]
        if config.compile:  # it wants torch's own operators
            merge_frozen_norms(detector.features.backbone)
        else:
            quicken(detector)
        self.criterion: SetCriterion = config.criterion.build(scores=config.detector.scores)
        self.schedule: Schedule = config.schedule.build(steps_per_epoch=self.steps_per_epoch, epochs=config.epochs)
        self.ema: Ema | None = config.ema.build(detector) if config.ema else None
        self.detector = detector
        if config.compile:
            detector.compile()
        self.model, self.optimizer = fabric.setup(detector, config.optimizer.build(detector))
        self.progress = self._resumed() if resume else Progress()
        self.means = Means(self.progress.epoch_sums, count=self.progress.epoch_count)
        self.keeper = Keeper(
            run,
            config=config,
            splits=splits,
            detector=detector,
            optimizer=self.optimizer.optimizer,
            ema=self.ema,
            progress=self.progress,
            is_first_process=fabric.is_global_zero,
        )
        self.skipped = SkippedSteps(run, detector=detector, loss_of=self._loss_alone)
        self.stop = StopRequest()
        self.must_stop = False
        self.display = Display(
            epochs=config.epochs,
            steps_per_epoch=self.steps_per_epoch,
            done_steps=self.progress.step,
            best_ap=self.progress.best_ap if self.progress.best_epoch else None,
            console=console,
        )

    def announce(self) -> None:
        """Say what will be trained on what, before the first step."""
        counts = {"training": len(self.splits.train), "validation": len(self.splits.val)}
        findings = data_findings(self.splits, config=self.config, stride=self.detector.features.backbone.stride)
        show_data(self.console, label_map=self.label_map, counts=counts, findings=findings)
        for name in self.reinitialised:
            self.console.print(f"drawn anew: {name}", highlight=False)
        self._say(
            f"{self.config.recipe}: {counted(self.config.epochs, 'epoch')} of {counted(self.steps_per_epoch, 'step')}, "
            f"{self._batch_text()}, lr {self.config.optimizer.lr:g}, "
            f"{resolve_precision(self.config.precision, device=self.fabric.device)} on {self.fabric.device.type}"
        )
        if self.progress.step:
            self._say(f"resuming after step {self.progress.step}, in epoch {self.progress.epoch + 1}")
        steps = self.config.epochs * self.steps_per_epoch
        concerns = watch.at_start(self.config, steps=steps, device=self.fabric.device)
        for name in concerns:  # a resumed training may have another length
            self.progress.warnings.pop(name, None)
        self._warn(concerns)

    def _batch_text(self) -> str:
        images, processes = self.config.data.batch_size, self.fabric.world_size
        return batch_text(images=images, processes=processes, accumulated=self.loaders.accumulate)

    def fit(self) -> TrainResult:
        """Run the remaining epochs, then evaluate the best model once more and write the results."""
        with self.keeper.running():
            with self.stop, self.display:
                while self.progress.epoch < self.config.epochs and not self._is_out_of_patience():
                    self._epoch()
                self._say_if_early()
                self.fabric.barrier()  # the first process has written the best model
                best = load_model(self.run.best).detector.to(self.fabric.device)
                evaluation = self._evaluate(best)
            return write_results(
                self.run,
                evaluation=evaluation,
                config=self.config,
                splits=self.splits,
                progress=self.progress,
                parameters=sum(parameter.numel() for parameter in best.parameters()),
            )

    def _resumed(self) -> Progress:
        return restore_checkpoint(
            self.run.last_checkpoint,
            detector=self.detector,
            optimizer=self.optimizer.optimizer,
            ema=self.ema,
            splits=self.splits,
            config=self.config,
            steps_per_epoch=self.steps_per_epoch,
        )

    def _epoch(self) -> None:
        """Train the rest of an epoch, evaluate if it is due, record both."""
        began, epoch, first = time.perf_counter(), self.progress.epoch, self.progress.step
        for micro_batches in self.loaders.steps(epoch, start=first - epoch * self.steps_per_epoch):
            self._step(micro_batches)
            speed = (self.progress.step - first) * self.config.data.batch_size / (time.perf_counter() - began)
            self._after_step(images_per_second=speed)
        images = (self.progress.step - first) * self.config.data.batch_size
        mean_speed = images / (time.perf_counter() - began) if images else None  # None: resumed in its evaluation
        row: Row = {**dict.fromkeys(METRICS), **self.means.read(), "lr": self.lr, **self._evaluate_if_due()}
        self.keeper.count_time()
        self.progress.epoch += 1
        row |= {"epoch": self.progress.epoch, "step": self.progress.step}
        row |= {"seconds": self.progress.seconds, "images_per_second": mean_speed}
        self.progress.rows.append(row)
        self.means = Means()
        self.display.epoch(row)
        self._warn(watch.after_epoch(self.progress))
        self.keeper.record(row)
        self._save()

    def _step(self, micro_batches: Sequence[Batch]) -> None:
        """Make one optimizer step."""
        self._seed_step()
        set_learning_rates(self.optimizer, self.schedule(self.progress.step))
        reports = []
        for index, batch in enumerate(micro_batches):
            batch = self.fabric.to_device(batch)
            num_boxes = boxes_per_process(self.fabric, batch)
            with self.fabric.no_backward_sync(self.model, enabled=index < len(micro_batches) - 1):
                output = self.model(batch.images, batch.is_padding, batch.targets)
                losses = self.criterion(output, batch.targets, num_boxes=num_boxes)
                self.fabric.backward(losses["loss"] / len(micro_batches))
            reports.append(losses)
        norm = self._clip()
        losses, self.must_stop = agree(
            self.fabric, {**_mean(reports), "grad_norm": norm}, stop=self.stop.received is not None
        )
        if bool(torch.stack([*losses.values()]).isfinite().all()):
            self.optimizer.step()
            if self.ema is not None:
                self.ema.update(self.detector)
            self.means.add(losses)
            self.skipped.in_a_row = 0
        else:
            self._skip(micro_batches, losses=losses)
        self.optimizer.zero_grad()
        self.progress.step += 1
        self.progress.images += self.config.data.batch_size

    def _seed_step(self) -> None:
        """Make dropout depend on nothing but the seed, the step and the process, so that a resumed step is the same."""
        torch.manual_seed(hash((self.config.seed, self.progress.step, self.fabric.global_rank)) % 2**63)

    def _clip(self) -> Tensor:
        """Return the norm of the gradient, which is clipped if the settings say so."""
        max_norm = self.config.optimizer.clip_norm
        limit = float("inf") if max_norm is None else max_norm
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        assert norm is not None
        return norm

    @property
    def lr(self) -> float:
        """The learning rate of the last step, also of one before the training was resumed."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def _skip(self, micro_batches: Sequence[Batch], *, losses: LossReport) -> None:
        """Leave out a step that is not finite, and find out why."""
        self.progress.skipped_steps += 1
        step = self.progress.step + 1
        numbers = {name: float(value) for name, value in losses.items()}
        self._seed_step()
        sentence = self.skipped.look_into(
            [self.fabric.to_device(batch) for batch in micro_batches],
            process=self.fabric.global_rank,
            facts={"step": step, "epoch": self.progress.epoch + 1, "lr": self.lr, **numbers},
        )
        self._say(sentence)
        self.skipped.require_hope(step=step, last_state=self.keeper.last_state)

    def _loss_alone(self, batch: Batch) -> Tensor:
        with self.fabric.autocast():
            output = self.detector(batch.images, batch.is_padding, batch.targets)
        num_boxes = max(float(sum(len(target.labels) for target in batch.targets)), 1.0)
        losses: LossReport = self.criterion(output, batch.targets, num_boxes=num_boxes)
        return losses["loss"]

    def _after_step(self, *, images_per_second: float) -> None:
        if self.must_stop:
            self._save()
            self.fabric.barrier()  # the first process has written its checkpoint
            self._end()
        if self.keeper.is_due():
            self._save()
        if self.progress.step % 10 == 0:
            self.display.step(
                step=self.progress.step, means=self.means.read(), lr=self.lr, images_per_second=images_per_second
            )

    def _evaluate_if_due(self) -> dict[str, float | None]:
        epoch = self.progress.epoch + 1
        if epoch % self.config.evaluate_every and epoch != self.config.epochs:
            return {}
        average_statistics(self.fabric, self.detector, self.keeper.averaged)
        evaluation = self._evaluate(self.keeper.averaged)
        results = evaluation.results
        self.keeper.keep_best(ap=results.AP, epoch=epoch)
        steps = self.config.epochs * self.steps_per_epoch
        self._warn(watch.after_evaluation(evaluation, self.splits.val, step=self.progress.step, steps=steps))
        scores = {"AP": results.AP, "AP50": results.AP50, "AP75": results.AP75}
        return {name: None if math.isnan(score) else score for name, score in scores.items()}

    def _evaluate(self, detector: nn.Module) -> Evaluation:
        seen = 0

        def progress(images: int) -> None:
            nonlocal seen
            seen += images
            self.display.evaluating(seen * self.fabric.world_size, len(self.splits.val))
            if self.stop.received is not None:  # other processes may have fewer images left: no waiting for them
                self._save()
                self._end()

        return evaluate_shares(
            detector,
            split=self.splits.val,
            loader=self.loaders.val,
            scores=self.config.detector.scores,
            device=self.fabric.device,
            progress=progress,
        )

    def _is_out_of_patience(self) -> bool:
        stopping = self.config.early_stopping
        return stopping is not None and self.progress.evaluations_since_best >= stopping.patience

    def _say_if_early(self) -> None:
        stopping = self.config.early_stopping
        if stopping is not None and self._is_out_of_patience():
            evaluations = counted(stopping.patience, "evaluation")
            self._say(
                f"ended early, after epoch {self.progress.epoch}: AP has not risen in {evaluations} "
                "(early_stopping.patience)"
            )

    def _save(self) -> None:
        """Write the checkpoint, except over a good one while steps are left out."""
        if not self.skipped.in_a_row:
            self.keeper.save(self.means)

    def _end(self) -> None:
        """End the process as it was asked to."""
        self._say(f"stopped: {self.keeper.last_state} is saved; go on with --resume auto")
        self.stop.end()

    def _warn(self, concerns: Mapping[str, str | None]) -> None:
        """Say what looks wrong, each concern once in a training."""
        for name, sentence in concerns.items():
            if sentence is not None and name not in self.progress.warnings:
                self.progress.warnings[name] = sentence
                self._say(f"warning: {sentence}")

    def _say(self, sentence: str) -> None:
        self.console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def _mean(reports: Sequence[LossReport]) -> LossReport:
    return {name: torch.stack([report[name].detach() for report in reports]).mean() for name in reports[0]}
