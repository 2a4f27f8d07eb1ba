"""What other code can watch and end in a training: calls after each step, epoch and evaluation."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from condetr.engine.checkpoint import Row
from condetr.losses.criterion import LossReport
from condetr.metrics.coco import CocoResults


class StepReport(NamedTuple):
    """A step that was made."""

    step: int
    """Counted from 1."""
    epoch: int
    """Counted from 1."""
    lr: float
    losses: LossReport
    """By name, and the norm of the gradient; on the device, so that reading one waits for it."""
    is_finite: bool
    """False if the step was skipped."""


class EpochReport(NamedTuple):
    """An epoch that ended."""

    epoch: int
    """Counted from 1."""
    row: Mapping[str, float | int | None]
    """The columns of metrics.csv and timing.csv."""


class EvaluationReport(NamedTuple):
    """An evaluation on the validation images."""

    epoch: int
    """Counted from 1."""
    step: int
    results: CocoResults
    is_best: bool
    """True if this model is the best so far, and was kept."""


class Callback:
    """Called in a training; override what you need. What a method raises ends the training, and is raised by it.

    The last checkpoint and the best model then stay in the run folder. With several processes, each of them calls its
    own, with the same reports.
    """

    def on_step(self, report: StepReport) -> None:
        """Take note of a step."""

    def on_epoch(self, report: EpochReport) -> None:
        """Take note of an epoch, after its metrics are written and its checkpoint is saved."""

    def on_evaluation(self, report: EvaluationReport) -> None:
        """Take note of an evaluation, after a better model is kept."""


class Callbacks:
    """Several callbacks in a row."""

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self._all = tuple(callbacks)

    def on_step(self, report: StepReport) -> None:
        """Call all of them."""
        for each in self._all:
            each.on_step(report)

    def on_epoch(self, epoch: int, row: Row) -> None:
        """Call all of them."""
        for each in self._all:
            each.on_epoch(EpochReport(epoch, dict(row)))

    def on_evaluation(self, report: EvaluationReport) -> None:
        """Call all of them."""
        for each in self._all:
            each.on_evaluation(report)
