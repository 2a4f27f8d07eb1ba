"""The contents of a run folder, as far as they exist."""

import csv
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from condetr.errors import InputError
from condetr.labels import LabelMap
from condetr.runs.folder import RunFolder

T = TypeVar("T")

History = dict[str, list[float]]
"""Columns of metrics.csv and timing.csv by name; NaN where a cell is empty."""


class Contents(NamedTuple):
    """The parts of a run folder that a report shows; those that do not exist are None and named in `missing`."""

    config_yaml: str | None
    label_map: LabelMap | None
    history: History | None
    results: dict[str, Any] | None
    missing: tuple[str, ...]


def read_contents(run: RunFolder) -> Contents:
    """Read the files that exist; raises InputError if the folder does not exist or a file in it is damaged."""
    if not run.path.is_dir():
        raise InputError(f"{run.path} is not a run folder: there is no such folder")
    config_yaml = _read(run.config, _read_text)
    label_map = _read(run.labels, LabelMap.load)
    history = read_history(run)
    results = _read(run.results, _read_json)
    parts = {run.config: config_yaml, run.labels: label_map, run.metrics: history, run.results: results}
    missing = tuple(path.name for path, part in parts.items() if part is None)
    return Contents(config_yaml, label_map, history, results, missing)


def read_history(run: RunFolder) -> History | None:
    """Return the recorded numbers of every epoch, None if there are none; raises InputError for a damaged file."""
    metrics, timing = (_read_epochs(path) for path in (run.metrics, run.timing))
    if metrics is None or timing is None or not {*metrics} & {*timing} >= {"epoch"}:
        return metrics
    row_of = {epoch: row for row, epoch in enumerate(timing["epoch"])}
    rows = [row_of.get(epoch) for epoch in metrics["epoch"]]
    joined = {name: [math.nan if row is None else column[row] for row in rows] for name, column in timing.items()}
    return {**joined, **metrics}


def _read_epochs(path: Path) -> History | None:
    """Read a file with a row for every epoch; refuse one in which epochs decrease, as with rows of two runs."""
    history = _read(path, _read_columns)
    epochs = [] if history is None else history.get("epoch", [])
    for row, (before, epoch) in enumerate(pairwise(epochs), start=2):
        if epoch <= before:
            raise InputError(
                f"{path} holds several trainings, one after the other: row {row} is back at epoch {epoch:g}; make a "
                "run folder of each"
            )
    return history


def _read(path: Path, reader: Callable[[Path], T | None]) -> T | None:
    if not path.is_file():
        return None
    try:
        return reader(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())}); remove it or restore it") from None


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _read_columns(path: Path) -> History | None:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        return None
    return {name: [float(row[name]) if row[name] else math.nan for row in rows] for name in rows[0]}


NUMERICALLY_NEUTRAL = (
    "recipe",
    "data.workers",
    "data.cache_mb",
    "loggers",
    "checkpoint_minutes",
    "process_timeout_minutes",
)
"""Settings that do not change the numbers. Runs that otherwise differ only in the seed form a group, and a resumed
training may change them."""
