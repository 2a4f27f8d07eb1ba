"""The doctor's advice for a data set, which a training without a recipe follows."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from condetr.doctor.advice import Advice, DataSummary, StepBytes
    from condetr.doctor.clean import Cleaned
    from condetr.doctor.examine import Examination, Glance
    from condetr.doctor.machine import Machine
    from condetr.doctor.plan import Plan
    from condetr.doctor.start import Start
    from condetr.engine.config import TrainConfig


class Adviser:
    """Checks data against a recipe or, without one, against the recipe that suits its number of images."""

    def __init__(self, recipe: str | None) -> None:
        from condetr.doctor.machine import this_machine

        self.recipe = recipe
        self.machine: Machine = this_machine()
        self.start: Start | None = None

    def plan_for(self, num_images: int) -> "Plan":
        """Return the limits for so many training images."""
        from dataclasses import replace

        from condetr.doctor.machine import blank_detector
        from condetr.doctor.start import choose_start
        from condetr.engine.loaders import plan_of
        from condetr.recipes.registry import RECIPES

        if self.recipe is None:
            self.start = choose_start(num_images)
        config = self._config()
        name = self._name()
        summary = RECIPES[name].summary if name in RECIPES else "the settings that the data was checked against"
        return replace(plan_of(config, blank_detector(config.detector)), recipe=name, summary=summary)

    def step_bytes(self, plan: "Plan") -> "StepBytes":
        """Return a function that computes the memory of a training step of the recipe."""
        from functools import partial

        from condetr.doctor.machine import step_bytes

        return partial(step_bytes, self._config().detector)

    def after_glance(self, glance: "Glance", *, data: Path) -> "Advice":
        """Return advice for data of which only the annotations and image headers were read."""
        from condetr.doctor.advice import DataSummary

        summary = DataSummary(
            data, glance.train, glance.val, num_images=len(glance.train), num_unreadable=glance.num_unreadable
        )
        return self._advice(summary, self.plan_for(len(glance.train)))

    def after_examination(self, examination: "Examination", *, data: Path, cleaned: "Cleaned | None") -> "Advice":
        """Return advice for data that was examined, or for its cleaned copy."""
        from condetr.data.findings import Fault
        from condetr.doctor.advice import DataSummary, with_cleaning

        train = examination.splits[examination.train]
        if cleaned is not None:
            summary = DataSummary(cleaned.data, train, examination.val, num_images=cleaned.training_images)
            return self._advice(summary, examination.plan)
        unreadable = len(examination.places(Fault.BROKEN_IMAGE))
        summary = DataSummary(data, train, examination.val, num_images=len(train), num_unreadable=unreadable)
        return with_cleaning(examination, summary, advise=lambda some: self._advice(some, examination.plan))

    def _advice(self, summary: "DataSummary", plan: "Plan") -> "Advice":
        from condetr.doctor.advice import advise

        return advise(summary, plan=plan, machine=self.machine, step_bytes=self.step_bytes(plan), start=self.start)

    def _name(self) -> str:
        assert self.recipe is not None or self.start is not None
        return self.start.recipe if self.start is not None else str(self.recipe)

    def _config(self) -> "TrainConfig":
        from condetr.recipes.registry import recipe

        options = {} if self.start is None else self.start.options
        return recipe(self._name(), *(f"{path}={option.value}" for path, option in options.items()))


def print_advice(console: "Console", advice: "Advice", *, heading: str = "train it with") -> None:
    """Print a command and the reason for each of its parts, or why there is none."""
    from rich.markup import escape
    from rich.table import Table

    if advice.instead is not None:
        console.print(f"\n[bold]before training[/]\n  {escape(advice.instead)}", soft_wrap=True)
    if advice.command is None:
        return
    lines = [line for line in (advice.first, advice.command) if line is not None]
    shown = "\n  ".join(f"[green]{escape(line)}[/]" for line in lines)
    console.print(f"\n[bold]{heading}[/]\n  {shown}\n", soft_wrap=True)
    if advice.start is not None:
        console.print(f"  [bold]start[/]: {escape(advice.start)}\n", soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
    for part in advice.parts:
        table.add_row(escape(part.text), f"[dim]{escape(part.reason)}[/]")
    console.print(table)
