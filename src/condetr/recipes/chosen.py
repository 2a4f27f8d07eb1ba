"""The settings of a training from a recipe, or from the doctor's advice, and from short options."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condetr.config import assign, override
from condetr.data.stored.mirror import address_of
from condetr.engine.config import TrainConfig
from condetr.errors import InputError
from condetr.recipes import registry
from condetr.recipes.advice import Adviser, print_advice

if TYPE_CHECKING:
    from rich.console import Console

SHORT_OPTIONS = {
    "data": "data.path",
    "train_split": "data.train_split",
    "val_split": "data.val_split",
    "val_fraction": "data.val_fraction",
    "batch_size": "data.batch_size",
    "lr": "optimizer.lr",
    "init_from": "init_from",
    "epochs": "epochs",
    "minutes": "minutes",
}
"""The settings behind the short names of the command line and of `condetr.train`."""


def run_folder(recipe: TrainConfig | Path | str | None, *, data: Path | str | None) -> Path:
    """Return the folder of a run where none is named: runs/RECIPE, otherwise runs/DATA."""
    if isinstance(recipe, TrainConfig):
        return Path("runs") / recipe.recipe
    return Path("runs") / (Path(recipe).stem if recipe else Path(data or "run").absolute().stem)


def chosen_settings(
    recipe: TrainConfig | Path | str | None,
    *,
    folder: Path,
    resume: bool,
    options: Mapping[str, Any],
    assignments: Sequence[str],
    console: "Console",
) -> TrainConfig:
    """Return settings, those of a recipe or, without one, what the doctor recommends for the data, which is printed.

    `options` are values by their short names, None where they are not given; `assignments` are as of `--set`. A run
    that is resumed without a recipe has the settings of its folder. Raises InputError if there is no such recipe or
    setting, or if the data cannot be trained on.
    """
    if recipe is None and resume and (folder / "config.yaml").is_file():
        recipe = folder / "config.yaml"
    advised: list[str] = []
    if recipe is None:
        recipe, advised = _advised(options, console=console)
    settings = recipe if isinstance(recipe, TrainConfig) else registry.recipe(str(recipe), *advised)
    given = {SHORT_OPTIONS[name]: value for name, value in options.items() if value is not None}
    return override(assign(settings, given, source="the options"), assignments)


def _advised(options: Mapping[str, Any], *, console: "Console") -> tuple[str, list[str]]:
    """Return the recipe and the settings that the doctor recommends, and print them."""
    from condetr.doctor.examine import glance

    if options.get("data") is None:
        raise InputError("no data to train on: name a folder or file with --data (or the setting data.path)")
    data = Path(options["data"])
    seen = glance(data, train_split=options.get("train_split"), val_split=options.get("val_split"))
    doctor = f"`condetr doctor {shlex.quote(address_of(data) or str(data))}`"
    if seen.refused is not None:
        raise InputError(
            f"{seen.refused}; {doctor} lists everything that is wrong, and with --fix OUT writes a copy without it"
        )
    advice = Adviser(None).after_glance(seen, data=data)
    if advice.command is None:
        raise InputError(f"{data} cannot be trained on: {advice.instead}")
    if os.environ.get("RANK", "0") == "0":
        print_advice(console, advice, heading="no recipe was named, so this is run, followed by your options")
    return advice.recipe, advice.assignments
