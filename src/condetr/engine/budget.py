"""A training that ends on time: its length is planned from its first steps, and corrected twice.

The plan is a complete training: the recipe's schedule, with its drop at the same share of the steps, some evaluations,
the last one and the report.
"""

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import NamedTuple

from condetr.data.dense import Phase
from condetr.engine.config import TrainConfig
from condetr.engine.optim import StepScheduleConfig
from condetr.errors import RunError
from condetr.words import counted

FIRST_STEPS = 10
"""Steps before the plan."""

SLOW_STEPS = 2
"""First steps of a process, which are not timed: compiling and allocating take longer in them."""

CORRECTED_AFTER = (0.1, 0.5)
"""Shares of the steps after which the plan is corrected: on a busy machine, steps become slower and faster."""

PLANS = 1 + len(CORRECTED_AFTER)
"""How often the length is planned."""

SAME = 0.02
"""A plan that is off by less than this share stays as it is."""

FEWEST_STEPS = 50
"""The shortest training that is planned."""

MOST_EVALUATIONS, EVALUATING = 10, 0.1
"""Evaluations before the last one are as many as fit in this share of the budget, up to this number."""

LONGEST_WARM_UP = 0.1
"""Share of the steps in which the learning rate may rise."""

TIMED_IMAGES = 8
"""Images whose evaluation is timed."""


def report_seconds(image_seconds: float) -> float:
    """Return about how long the report, and starting, take where the evaluation of an image takes `image_seconds`."""
    return 8 + 40 * image_seconds


class TimedStep(NamedTuple):
    """The time of a step with reading its images."""

    seconds: float
    phase: Phase | None = None
    """The part of the training, where the augmentation has parts: they take different times."""


Ahead = Mapping[Phase | None, float]
"""The share of each phase in the steps that are left."""


class Plan(NamedTuple):
    """The length of a training, and the seconds that it was computed from."""

    steps: int
    evaluations: int
    """Before the last one."""
    step_seconds: float
    evaluation_seconds: float
    report_seconds: float


@dataclass(kw_only=True)
class Budget:
    """The minutes of a training, and where they went so far."""

    minutes: float
    began: float
    """When this process began, by time.perf_counter, less the seconds that earlier ones have used."""
    timed: list[TimedStep] = field(default_factory=list)
    """The steps of this process."""

    @property
    def seconds_left(self) -> float:
        """The time until the end."""
        return 60 * self.minutes - (time.perf_counter() - self.began)

    def is_due(self, *, step: int, steps: int, plans: int) -> bool:
        """Return whether the training is planned, or the plan corrected, after `step` of `steps` steps."""
        if plans >= PLANS or len(self.timed) < FIRST_STEPS:
            return False
        return step >= (FIRST_STEPS if plans == 0 else math.ceil(CORRECTED_AFTER[plans - 1] * steps))

    def plan(
        self,
        *,
        step: int,
        evaluation_seconds: float,
        report_seconds: float,
        done: float = 0.0,
        ahead: Ahead | None = None,
    ) -> Plan:
        """Plan the training after `step` steps, of which `done` is the share in the present plan.

        A phase that was not seen yet counts as the mean of the others.
        """
        seconds: dict[Phase | None, list[float]] = defaultdict(list)
        for each in self.timed[SLOW_STEPS:]:
            seconds[each.phase].append(each.seconds)
        means = {phase: fmean(each) for phase, each in seconds.items()}
        step_seconds = sum(
            share * means.get(phase, fmean(means.values())) for phase, share in (ahead or {None: 1.0}).items()
        )
        evaluations = min(int(EVALUATING * 60 * self.minutes / evaluation_seconds), MOST_EVALUATIONS)
        stepping = self.seconds_left - (evaluations * (1 - done) + 1) * evaluation_seconds - report_seconds
        steps = step + int(stepping / step_seconds)
        return Plan(steps, evaluations, step_seconds, evaluation_seconds, report_seconds)

    def require_enough(self, plan: Plan) -> None:
        """Raise RunError if the minutes are too few for a training."""
        lacking = FEWEST_STEPS - plan.steps
        if lacking > 0:
            ending = plan.evaluation_seconds + plan.report_seconds
            # More minutes have more evaluations.
            minutes = math.ceil((60 * self.minutes + lacking * plan.step_seconds) / (1 - EVALUATING) / 60)
            raise RunError(
                f"{self.minutes:g} minutes are too few: a step takes {plan.step_seconds:.2g} s here, the last "
                f"evaluation and the report {ending:.0f} s; give at least {counted(minutes, 'minute')}, or train "
                "on smaller images"
            )

    def told(self, plan: Plan, *, steps_per_epoch: int) -> str:
        """Say what is planned."""
        end = time.strftime("%H:%M", time.localtime(time.time() + self.seconds_left))
        steps = (
            f"{counted(plan.steps, 'step')} ({plan.steps / steps_per_epoch:.1f} epochs) of {plan.step_seconds:.2g} s"
        )
        evaluations = f"{counted(plan.evaluations + 1, 'evaluation')} of {plan.evaluation_seconds:.2g} s"
        return f"plan for {self.minutes:g} minutes: {steps}, {evaluations}, ready at {end}"


def scaled(config: TrainConfig, *, steps: int, steps_per_epoch: int, evaluations: int) -> TrainConfig:
    """Return the settings for another number of steps: schedule and evaluations keep their places in the whole."""
    ratio = steps / config.total_steps(steps_per_epoch)
    schedule = replace(config.schedule, warmup_steps=min(config.schedule.warmup_steps, int(LONGEST_WARM_UP * steps)))
    if isinstance(schedule, StepScheduleConfig):
        drop, *further = (round(epoch * ratio, 3) for epoch in (schedule.drop_epoch, *schedule.further_drop_epochs))
        schedule = replace(schedule, drop_epoch=drop, further_drop_epochs=tuple(further))
    epochs = math.ceil(steps / steps_per_epoch)
    return replace(
        config,
        epochs=epochs,
        max_steps=steps,
        schedule=schedule,
        evaluate_every=math.ceil(epochs / (evaluations + 1)),
    )
