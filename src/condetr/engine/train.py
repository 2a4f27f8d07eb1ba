"""A training from its first epoch to its last: steps, evaluations, checkpoints. A step itself is in `step`."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from rich.console import Console

from condetr.data.batch import Batch
from condetr.data.sources import DataSplits
from condetr.detectors.detector import Detector
from condetr.engine import watch
from condetr.engine.budget import (
    FEWEST_STEPS,
    MOST_EVALUATIONS,
    PLANS,
    SAME,
    TIMED_IMAGES,
    Budget,
    TimedStep,
    report_seconds,
    scaled,
)
from condetr.engine.callbacks import Callback, Callbacks, EvaluationReport, StepReport
from condetr.engine.checkpoint import Progress, Restored, Row, restore_checkpoint
from condetr.engine.config import TrainConfig
from condetr.engine.display import Display, Means
from condetr.engine.initial import initialise
from condetr.engine.interrupt import StopRequest
from condetr.engine.loaders import Loaders, data_findings, make_loaders
from condetr.engine.nonfinite import SkippedSteps
from condetr.engine.processes import launch, lost_processes_named, share_statistics
from condetr.engine.recorder import Recorder
from condetr.engine.results import Evaluation, TrainResult, evaluate_shares, write_results
from condetr.engine.step import Stepper, has_idle_parameters
from condetr.inference.detect import detect
from condetr.inference.model_folder import LoadedModel
from condetr.optimize.norms import merge_frozen_norms
from condetr.optimize.training import memory_format, speed_up_training
from condetr.runs.folder import RunFolder
from condetr.runs.lock import locked
from condetr.words import counted


def train(
    config: TrainConfig,
    run: RunFolder,
    *,
    splits: DataSplits,
    initial: LoadedModel | None = None,
    resume: bool = False,
    device: torch.device | None = None,
    console: Console | None = None,
    began: float | None = None,
    callbacks: Iterable[Callback] = (),
) -> TrainResult:
    """Train a detector on splits, from the weights of `initial` if they are given; see `condetr.train`.

    A budget of minutes is counted from `began` by time.perf_counter, from now by default.
    """
    began = time.perf_counter() if began is None else began
    run.require_usable(resume=resume)
    fabric = launch(config, device=device, has_idle_parameters=lambda: has_idle_parameters(config.detector))
    console = (console or Console()) if fabric.is_global_zero else Console(quiet=True)
    lock = locked(run, resume=resume, is_first_process=fabric.is_global_zero, broadcast=fabric.broadcast)
    with lost_processes_named(checkpoint=run.last_checkpoint), lock:
        resume = resume and run.last_checkpoint.is_file()
        training = prepare(
            config, run=run, splits=splits, initial=initial, fabric=fabric, console=console, resume=resume, began=began
        )
        training.callbacks = Callbacks(callbacks)
        return training.fit()


def prepare(
    config: TrainConfig,
    *,
    run: RunFolder,
    splits: DataSplits,
    fabric: Fabric,
    console: Console,
    initial: LoadedModel | None = None,
    resume: bool = False,
    began: float = 0.0,
) -> "Training":
    """Build all parts of a training, restore them from a checkpoint if it was stopped, and announce it."""
    loaders = make_loaders(config, splits=splits, rank=fabric.global_rank, world_size=fabric.world_size)
    torch.manual_seed(config.seed)
    starts_bare = config.init_from is None and not resume
    num_classes = len(splits.train.label_map)
    detector: Detector = config.detector.build(num_classes=num_classes, pretrained=starts_bare)
    reinitialised: tuple[str, ...] = ()
    if initial is not None and not resume:
        reinitialised = initialise(
            detector,
            initial,
            config=config.detector,
            label_map=splits.train.label_map,
            source=str(config.init_from),
        )
    detector = detector.to(fabric.device, memory_format=memory_format(detector, device=fabric.device))  # type: ignore[call-overload]
    # torch.compile needs torch's own operators.
    (merge_frozen_norms if config.compile else speed_up_training)(detector)
    if config.minutes is not None:  # until it is planned, as long as the recipe
        steps = max(config.total_steps(loaders.steps_per_epoch), FEWEST_STEPS)
        config = scaled(config, steps=steps, steps_per_epoch=loaders.steps_per_epoch, evaluations=MOST_EVALUATIONS)
    stepper = Stepper(detector, config=config, steps_per_epoch=loaders.steps_per_epoch, fabric=fabric)
    restored = Restored(Progress(), best=None, config=config)
    if resume:
        restored = restore_checkpoint(
            run.last_checkpoint, stepper, splits=splits, config=config, steps_per_epoch=loaders.steps_per_epoch
        )
    progress, config = restored.progress, restored.config
    training = Training(
        config=config,
        splits=splits,
        fabric=fabric,
        loaders=loaders,
        stepper=stepper,
        progress=progress,
        recorder=Recorder(
            run,
            config=config,
            splits=splits,
            stepper=stepper,
            progress=progress,
            best=restored.best,
            is_first_process=fabric.is_global_zero,
        ),
        skipped=SkippedSteps(run, detector=detector, loss_of=stepper.loss_alone),
        display=Display(
            steps=config.total_steps(loaders.steps_per_epoch),
            steps_per_epoch=loaders.steps_per_epoch,
            done_steps=progress.step,
            best_ap=progress.best_ap if progress.best_epoch else None,
            console=console,
        ),
        means=Means(progress.epoch_sums, count=progress.epoch_count),
        budget=None if config.minutes is None else Budget(minutes=config.minutes, began=began - progress.seconds),
    )
    training.announce(reinitialised)
    return training


@dataclass(kw_only=True)
class Training:
    """All parts of one training."""

    config: TrainConfig
    splits: DataSplits
    fabric: Fabric
    loaders: Loaders
    stepper: Stepper
    progress: Progress
    recorder: Recorder
    skipped: SkippedSteps
    display: Display
    means: Means
    """Means of the losses in the epoch so far."""
    budget: Budget | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    callbacks: Callbacks = field(default_factory=Callbacks)

    @property
    def total_steps(self) -> int:
        """The number of steps of the whole training."""
        return self.config.total_steps(self.loaders.steps_per_epoch)

    @property
    def is_complete(self) -> bool:
        """True once all steps are made, even if they end inside an epoch."""
        return self.progress.epoch * self.loaders.steps_per_epoch >= self.total_steps

    def announce(self, reinitialised: Sequence[str]) -> None:
        """Print the data, the length and the settings of the training before the first step."""
        findings = data_findings(self.splits, config=self.config, detector=self.stepper.detector)
        self.display.data(self.splits, findings=findings)
        for name in reinitialised:
            self.display.say(f"re-initialised: {name}")
        is_planned = self.budget is None or self.progress.plans > 0
        self.display.plan(self.config, self.loaders, fabric=self.fabric, is_planned=is_planned)
        if self.progress.step:
            self.display.say(f"resuming after step {self.progress.step}, in epoch {self.progress.epoch + 1}")
        if is_planned:
            self._warn_at_start()

    def _warn_at_start(self) -> None:
        """Warn of settings that do not suit the length of the training."""
        concerns = watch.at_start(self.config, steps=self.total_steps, device=self.fabric.device)
        for name in concerns:  # the length of a resumed training may have changed
            self.progress.warnings.pop(name, None)
        self._warn(concerns)

    def fit(self) -> TrainResult:
        """Run the remaining epochs, then write the results of the best model."""
        with self.recorder.running():
            with self.stop, self.display:
                while not self.is_complete and not self._is_out_of_patience():
                    self._epoch()
                self._say_if_early()
            return write_results(
                self.recorder.run,
                detections=self.recorder.best or {},
                config=self.config,
                splits=self.splits,
                progress=self.progress,
                parameters=self.recorder.num_parameters(),
                is_first_process=self.fabric.is_global_zero,
            )

    def _epoch(self) -> None:
        """Train the rest of an epoch, evaluate if it is due, record both."""
        began, epoch, first = time.perf_counter(), self.progress.epoch, self.progress.step
        steps = self._steps(epoch)
        began_step = began
        while self.progress.step < self.total_steps and (batches := next(steps, None)) is not None:
            if self.progress.step == 0:
                self.recorder.draw(batches[0])
            self._step(batches)
            if self.budget is not None and self.progress.plans < PLANS:
                is_changed = self._keep_to(self.budget, seconds=time.perf_counter() - began_step)
                if is_changed and self.loaders.dense is not None:
                    steps = self._steps(epoch)  # their images follow from the length
            began_step = time.perf_counter()
            speed = (self.progress.step - first) * self.config.data.batch_size / (time.perf_counter() - began)
            self._after_step(images_per_second=speed)
        images = (self.progress.step - first) * self.config.data.batch_size
        mean_speed = images / (time.perf_counter() - began) if images else None  # None: resumed in its evaluation
        row: Row = {"loss": None, **self.means.read(), "lr": self.stepper.lr, **self._evaluate_if_due()}
        self.recorder.count_time()
        self.progress.epoch += 1
        row |= {"epoch": self.progress.epoch, "step": self.progress.step}
        row |= {"seconds": self.progress.seconds, "images_per_second": mean_speed}
        self.progress.rows.append(row)
        self.means = Means()
        self.display.epoch(row)
        self._warn(watch.after_epoch(self.progress))
        self.recorder.record(row)
        self._save()
        self.callbacks.on_epoch(self.progress.epoch, row)

    def _steps(self, epoch: int) -> Iterator[list[Batch]]:
        """Return the batches of the remaining steps of an epoch."""
        start = self.progress.step - epoch * self.loaders.steps_per_epoch
        return self.loaders.steps(epoch, start=start, total=self.total_steps)

    def _step(self, batches: Sequence[Batch]) -> None:
        """Make one optimizer step, or skip it if it is not finite."""
        outcome = self.stepper.step(batches, number=self.progress.step, stop=self.stop.received is not None)
        if outcome.is_finite:
            self.means.add(outcome.losses)
            self.skipped.in_a_row = 0
        elif not outcome.is_overflow:
            self._diagnose(batches, losses={name: float(value) for name, value in outcome.losses.items()})
        self.stop.is_agreed = outcome.must_stop
        self.progress.step += 1
        self.progress.images += self.config.data.batch_size
        epoch, lr = self.progress.epoch + 1, self.stepper.lr
        self.callbacks.on_step(StepReport(self.progress.step, epoch, lr, outcome.losses, outcome.is_finite))

    def _keep_to(self, budget: Budget, *, seconds: float) -> bool:
        """Plan the length of the training, or correct the plan, if it is time; the last step took `seconds`.

        Return whether the length is another one now.
        """
        step, dense = self.progress.step, self.loaders.dense
        budget.timed.append(TimedStep(seconds, self.loaders.phase(step - 1, total=self.total_steps)))
        if not budget.is_due(step=step, steps=self.total_steps, plans=self.progress.plans):
            return False
        is_first = self.progress.plans == 0
        done = 0.0 if is_first else step / self.total_steps
        image_seconds = self._seconds_per_image()
        plan = self.fabric.broadcast(
            budget.plan(
                step=step,
                done=done,
                ahead=None if dense is None else dense.ahead(step / self.total_steps),
                evaluation_seconds=image_seconds * len(self.splits.val) / self.fabric.world_size,
                report_seconds=report_seconds(image_seconds),
            )
        )
        budget.require_enough(plan)
        self.progress.plans += 1
        if not is_first and abs(plan.steps / self.total_steps - 1) < SAME:
            return False
        per_epoch = self.loaders.steps_per_epoch
        self.config = scaled(self.config, steps=plan.steps, steps_per_epoch=per_epoch, evaluations=plan.evaluations)
        self.stepper.follow(self.config, steps_per_epoch=per_epoch)
        self.recorder.write_config(self.config)
        self.display.length(plan.steps)
        self.display.say(("" if is_first else "corrected ") + budget.told(plan, steps_per_epoch=per_epoch))
        self._warn_at_start()
        return True

    def _seconds_per_image(self) -> float:
        """Time the evaluation of a few images."""
        images, began = 0, time.perf_counter()
        for batch in self.loaders.val:
            detect(self.stepper.averaged, [batch], label_map=self.splits.val.label_map, device=self.fabric.device)
            images += len(batch.image_ids)
            if images >= TIMED_IMAGES:
                break
        return (time.perf_counter() - began) / max(images, 1)

    def _diagnose(self, batches: Sequence[Batch], *, losses: Mapping[str, float]) -> None:
        """Find out why a step was not finite."""
        self.progress.skipped_steps += 1
        step = self.progress.step + 1
        self.stepper.seed_step(self.progress.step)
        sentence = self.skipped.diagnose(
            [self.fabric.to_device(batch) for batch in batches],
            process=self.fabric.global_rank,
            facts={"step": step, "epoch": self.progress.epoch + 1, "lr": self.stepper.lr, **losses},
        )
        self.display.say(sentence)
        self.skipped.raise_if_too_many(step=step, last_state=self.recorder.last_state)

    def _after_step(self, *, images_per_second: float) -> None:
        if self.stop.is_agreed:
            self._save()
            self.fabric.barrier()  # the first process has written its checkpoint
            self._end()
        if self.recorder.is_due():
            self._save()
        if self.progress.step % 10 == 0:
            self.display.step(
                step=self.progress.step,
                means=self.means.read(),
                lr=self.stepper.lr,
                images_per_second=images_per_second,
            )

    def _evaluate_if_due(self) -> dict[str, float | None]:
        epoch = self.progress.epoch + 1
        is_last = epoch * self.loaders.steps_per_epoch >= self.total_steps
        if epoch % self.config.evaluate_every and not is_last:
            return {}
        share_statistics(self.fabric, self.stepper.detector, self.stepper.averaged)
        evaluation = self._evaluate(self.stepper.averaged)
        results = evaluation.results
        self.recorder.keep_best(evaluation, epoch=epoch)
        steps = {"step": self.progress.step, "steps": self.total_steps}
        self._warn(watch.after_evaluation(evaluation, self.splits.val, **steps))
        is_best = self.progress.best_epoch == epoch
        self.callbacks.on_evaluation(EvaluationReport(epoch, self.progress.step, results, is_best))
        scores = {"AP": results.AP, "AP50": results.AP50, "AP75": results.AP75}
        return {name: None if math.isnan(score) else score for name, score in scores.items()}

    def _evaluate(self, detector: Detector) -> Evaluation:
        seen = 0

        def progress(images: int) -> None:
            nonlocal seen
            seen += images
            self.display.evaluating(seen * self.fabric.world_size, len(self.splits.val))
            if self.stop.received is not None:  # other processes may have fewer images left: no waiting for them
                self._save()
                self._end()

        return evaluate_shares(
            detector, split=self.splits.val, loader=self.loaders.val, device=self.fabric.device, progress=progress
        )

    def _is_out_of_patience(self) -> bool:
        stopping = self.config.early_stopping
        return stopping is not None and self.progress.evaluations_since_best >= stopping.patience

    def _say_if_early(self) -> None:
        stopping = self.config.early_stopping
        if stopping is not None and self._is_out_of_patience():
            evaluations = counted(stopping.patience, "evaluation")
            self.display.say(
                f"ended early, after epoch {self.progress.epoch}: AP has not risen in {evaluations} "
                "(early_stopping.patience)"
            )

    def _save(self) -> None:
        """Write the checkpoint, unless steps are being skipped and it would replace a good one."""
        if not self.skipped.in_a_row:
            self.recorder.save(self.means)

    def _end(self) -> None:
        """End the process, as it was asked to do."""
        self.display.say(f"stopped: {self.recorder.last_state} is saved; continue with --resume auto")
        self.stop.end()

    def _warn(self, concerns: Mapping[str, str | None]) -> None:
        """Print warnings, each of them once in a training."""
        for name, sentence in concerns.items():
            if sentence is not None and name not in self.progress.warnings:
                self.progress.warnings[name] = sentence
                self.display.say(f"warning: {sentence}")
