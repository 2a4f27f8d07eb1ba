"""One optimizer step, written out: forward, matching, loss, backward, clip, step."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from condetr.data.batch import Batch, collate_images
from condetr.detectors.detector import Detector
from condetr.detectors.registry import DetectorConfig
from condetr.engine.config import TrainConfig
from condetr.engine.optim import Ema, Schedule, set_learning_rates
from condetr.engine.processes import agree, boxes_per_process, loss_scaler
from condetr.losses.criterion import Criterion, LossReport
from condetr.shapes import Output, Targets


class Outcome(NamedTuple):
    """The result of a step, the same in all processes."""

    losses: LossReport
    """Means over batches and processes, and the norm of the gradient."""
    is_finite: bool
    """Otherwise the step was skipped."""
    is_overflow: bool
    """True if only the scaled gradient was not finite, as happens in fp16; the next one is scaled less."""
    must_stop: bool
    """True if a process was asked to stop."""


class Stepper:
    """A detector with its losses, optimizer, schedule and weight average."""

    def __init__(self, detector: Detector, *, config: TrainConfig, steps_per_epoch: int, fabric: Fabric) -> None:
        self.fabric = fabric
        self.seed = config.seed
        self.criterion: Criterion = config.detector.build_criterion()
        self.follow(config, steps_per_epoch=steps_per_epoch)
        self.ema: Ema | None = config.ema.build(detector) if config.ema else None
        self.detector = detector
        if config.compile:
            detector.compile()
        optimizer = config.optimizer.build(detector)
        self.limits = config.optimizer.limits(optimizer)
        self.scaler = loss_scaler(fabric)
        self.model, self.optimizer = fabric.setup(detector, optimizer)

    def follow(self, config: TrainConfig, *, steps_per_epoch: int) -> None:
        """Take the schedule of these settings from now on."""
        self.schedule: Schedule = config.schedule.build(
            steps_per_epoch=steps_per_epoch, steps=config.total_steps(steps_per_epoch)
        )

    @property
    def averaged(self) -> Detector:
        """The detector that is evaluated and exported: the average of the weights if there is one."""
        return self.detector if self.ema is None else cast(Detector, self.ema.module)

    @property
    def lr(self) -> float:
        """The learning rate of the last step, even if that step was made before the training was resumed."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def step(self, batches: Sequence[Batch], *, number: int, stop: bool) -> Outcome:
        """Make step `number`, counted from 0; `stop` tells the other processes that this one was asked to stop."""
        self.seed_step(number)
        set_learning_rates(self.optimizer, self.schedule(number))
        reports = []
        for index, batch in enumerate(batches):
            batch = self.fabric.to_device(batch)
            with self.fabric.no_backward_sync(self.model, enabled=index < len(batches) - 1):
                num_boxes = boxes_per_process(self.fabric, batch)
                losses = losses_of(self.model, self.criterion, batch, num_boxes=num_boxes)
                self.fabric.backward(losses["loss"] / len(batches))
            reports.append(losses)
        losses, must_stop = agree(self.fabric, {**_mean(reports), "grad_norm": self._clip()}, stop=stop)
        is_finite = bool(torch.stack([*losses.values()]).isfinite().all())
        if is_finite:
            with self.fabric.autocast():  # of Muon's matrix products
                self.optimizer.step()
            if self.ema is not None:
                self.ema.update(self.detector)
        self.optimizer.zero_grad()
        is_overflow = not is_finite and self._can_scale_less() and bool(losses["loss"].isfinite())
        if self.scaler is not None:
            self.scaler.update()
        return Outcome(losses, is_finite=is_finite, is_overflow=is_overflow, must_stop=must_stop)

    def seed_step(self, number: int) -> None:
        """Make dropout depend only on the seed, the step and the process, so that a resumed step is the same."""
        sequence = np.random.SeedSequence([self.seed, number, self.fabric.global_rank])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) % 2**63)

    def loss_alone(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, computed without communication between processes."""
        with self.fabric.autocast():
            losses = losses_of(
                self.detector, self.criterion, batch, num_boxes=max(float(sum(batch.targets.counts)), 1.0)
            )
        return losses["loss"]

    def _can_scale_less(self) -> bool:
        return self.scaler is not None and self.scaler.get_scale() > 1

    def _clip(self) -> Tensor:
        """Clip the gradient, or parts of it, if the settings say so; return its norm before clipping."""
        norms = []
        for part, limit in self.limits:
            norm = self.fabric.clip_gradients(self.model, part, max_norm=limit, error_if_nonfinite=False)
            assert norm is not None
            norms.append(norm)
        return torch.stack(norms).norm() if len(norms) > 1 else norms[0]


def losses_of(model: Callable[..., Output], criterion: Criterion, batch: Batch, *, num_boxes: float) -> LossReport:
    """Predict in a batch, match and return the losses."""
    output = model(batch.normalised(), batch.is_padding, batch.targets)
    return criterion(output, batch.targets, num_boxes=num_boxes)


def has_idle_parameters(config: DetectorConfig) -> bool:
    """Tell whether some parameters of a detector get no gradient in some batch, as in some ablations.

    It is tested on a tiny image with an object, and on one without, as processes may get either.
    """
    detector, criterion = config.build(num_classes=2, pretrained=False).train(), config.build_criterion()
    learning = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    batch = collate_images([torch.zeros(3, 64, 64, dtype=torch.uint8)], original_sizes_hw=[(64, 64)])
    one = Targets.of([(torch.tensor([0]), torch.tensor([[0.5, 0.5, 0.3, 0.3]]))])
    losses = (
        losses_of(detector, criterion, batch._replace(targets=targets), num_boxes=1.0)["loss"]
        for targets in (one, Targets.none(1))
    )
    gradients = (torch.autograd.grad(loss, learning, allow_unused=True) for loss in losses)
    return any(gradient is None for each in gradients for gradient in each)


def _mean(reports: Sequence[LossReport]) -> LossReport:
    return {name: torch.stack([report[name].detach() for report in reports]).mean() for name in reports[0]}
