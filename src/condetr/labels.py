"""The label map: training id, dataset category id and name of every class, made once from the data.

Training ids are contiguous, 0..K-1. The map is stored in every checkpoint, export and results file, so that the class
of a logit is always known.
"""

import difflib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from condetr.errors import InputError

MOST_CLASSES = 10_000
"""The maximum number of classes: the precision tables of COCO's AP take 100 kB for each class."""

_NAMED = 20  # classes in a sentence


class Category(NamedTuple):
    """One class of a data set."""

    dataset_id: int
    name: str


class Rows(NamedTuple):
    """The rows of a class head that belong to classes, if some rows belong to none."""

    used: tuple[int, ...]
    """The row of each class, by training id."""
    total: int
    """The number of rows, without "no object"."""


@dataclass(frozen=True)
class LabelMap:
    """Categories in the order of their training ids."""

    categories: tuple[Category, ...]
    rows: Rows | None = field(default=None, kw_only=True)
    """The rows of the class head if some have no class, as in COCO models. None: the rows are the classes, in order.
    It is not part of what `to_list` returns.
    """
    ids_are_counted: bool = field(default=False, compare=False)
    """True if the data has no class ids, so that the reader numbered the classes: other data may have other numbers.
    It is not stored.
    """

    def __post_init__(self) -> None:
        if len(self.categories) > MOST_CLASSES:
            raise InputError(
                f"the data has {len(self.categories):,} categories, condetr takes at most {MOST_CLASSES:,}"
            )
        for kind, values in (("id", self.dataset_ids), ("name", self.names)):
            repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
            if repeated:
                raise InputError(
                    f"every category needs its own {kind}, but {', '.join(repeated)} occurs more than once"
                )

    def __len__(self) -> int:
        return len(self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by training id."""
        return tuple(category.name for category in self.categories)

    def labels_of(self, names: Sequence[str]) -> list[int]:
        """Return the training ids of classes; raises InputError with the nearest name for one that is unknown."""
        unknown = next((name for name in names if name not in self.names), None)
        if unknown is None:
            return [self.names.index(name) for name in names]
        lowered = {name.casefold(): name for name in reversed(self.names)}
        close = difflib.get_close_matches(unknown.casefold(), lowered, n=1, cutoff=0.5)
        known = ", ".join(self.names[:_NAMED]) + (", ..." if len(self) > _NAMED else "")
        hint = f"did you mean {lowered[close[0]]!r}?" if close else f"known are {known}"
        raise InputError(f"the model has no class {unknown!r}; {hint}")

    @property
    def dataset_ids(self) -> tuple[int, ...]:
        """The data set's own category ids by training id."""
        return tuple(category.dataset_id for category in self.categories)

    @cached_property
    def training_ids(self) -> dict[int, int]:
        """Training id of every dataset category id."""
        return {dataset_id: index for index, dataset_id in enumerate(self.dataset_ids)}

    @property
    def num_rows(self) -> int:
        """The number of rows of the class head, without "no object"."""
        return len(self) if self.rows is None else self.rows.total

    @property
    def row_of_each(self) -> Sequence[int]:
        """The row of the class head of each class."""
        return range(len(self)) if self.rows is None else self.rows.used

    def without_rows(self) -> "LabelMap":
        """Return the map for a head that has only the rows of the classes."""
        return replace(self, rows=None)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the map as plain data, a row for every class."""
        return [
            {"training_id": index, "dataset_id": category.dataset_id, "name": category.name}
            for index, category in enumerate(self.categories)
        ]

    @staticmethod
    def from_list(rows: Any) -> "LabelMap":  # noqa: ANN401 - any content of a file
        """Read what `to_list` wrote; rows may be in any order. Raises InputError for anything else."""
        try:
            categories = {row["training_id"]: Category(int(row["dataset_id"]), str(row["name"])) for row in rows}
            ordered = tuple(categories[index] for index in range(len(rows)))
        except (ArithmeticError, LookupError, TypeError, ValueError):
            raise InputError(
                "a label map needs rows with training_id (0, 1, 2, ... without gaps), dataset_id (a number) and name"
            ) from None
        return LabelMap(ordered)

    def save(self, path: Path | str) -> None:
        """Write the map as JSON."""
        Path(path).write_text(json.dumps(self.to_list(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path | str) -> "LabelMap":
        """Read a map that `save` wrote; raises InputError if the file is damaged."""
        try:
            return LabelMap.from_list(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot read the label map {path}: {error}") from None
