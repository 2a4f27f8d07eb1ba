"""The part of a data set that a model is evaluated on, and whether the model was trained on it."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from condetr.data.dataset import Finding, Split
from condetr.data.findings import findings_of, strictly
from condetr.data.sources import read_split
from condetr.data.splits import role
from condetr.errors import InputError
from condetr.labels import Category, LabelMap
from condetr.runs.images import ImagesUsed, are_among
from condetr.words import counted


class Part(NamedTuple):
    """A split, or the images of it that a run held out."""

    split: Split
    findings: tuple[Finding, ...]
    """What was found wrong in the whole split."""
    trained_on: int | None
    """How many of its images the run was trained on; None if the weights do not record it."""
    held_out: int | None = None
    """How many images the run held out in total, if the part is a subset of them."""

    def title(self, *, weights: Path | str, data: Path | str) -> str:
        """Return a title with the weights and the data."""
        title = f"{weights} on {self.split.name} of {data}, {counted(len(self.split), 'image')}"
        if self.held_out not in (None, len(self.split)):
            title += f" of the {self.held_out:,} that the run held out"
        if self.trained_on == len(self.split):
            return f"{title}, all of which the run trained on"
        return f"{title}, of which the run trained on {self.trained_on:,}" if self.trained_on else title


def open_part(
    data: Path | str,
    *,
    weights: Path | str,
    split: str | None = None,
    skip_unreadable: bool = False,
) -> Part:
    """Open the named split, otherwise the validation split, otherwise the test split, otherwise the only one.

    If there is only one and a run was trained on some of its images, the others, which it held out, are used.
    """
    whole, notes = strictly(read_split(Path(data), split=split, skip_unreadable=skip_unreadable))
    findings = findings_of(notes)
    used = ImagesUsed.of_weights(weights)
    if used is None:
        return Part(whole, findings, trained_on=None)
    is_seen = are_among(whole.records, used.training)
    if split is not None or role(whole.name) in ("val", "test") or all(is_seen) or not any(is_seen):
        return Part(whole, findings, trained_on=sum(is_seen))
    unseen = tuple(record for record, seen in zip(whole.records, is_seen, strict=True) if not seen)
    is_held_out = all(are_among(unseen, used.validation))
    name = f"{whole.name} ({'held out' if is_held_out else 'not trained on'})"
    held_out = len(used.validation) if is_held_out else None
    return Part(replace(whole, name=name, records=unseen), findings, trained_on=0, held_out=held_out)


def in_classes_of(known: LabelMap, truth: Split, *, weights: Path | str, data: Path | str) -> Split:
    """Return a split with a model's training ids; a model may know more classes, as the training split may have them.

    Raises InputError unless the model has all of the split's categories. If the ids of the split are only counted,
    categories are compared by name alone.
    """
    given = truth.label_map
    by_key = {_key(category, given): training_id for training_id, category in enumerate(known.categories)}
    keys = [_key(category, given) for category in given.categories]
    if not set(keys) <= set(by_key):
        raise InputError(_difference(known, given, weights=weights, data=data))
    ids = np.array([by_key[key] for key in keys], dtype=np.int64)
    records = tuple(replace(record, labels=ids[record.labels]) for record in truth.records)
    return replace(truth, records=records, label_map=known)


def _key(category: Category, given: LabelMap) -> Category | str:
    """Return the key by which categories are compared with those of the given data."""
    return category.name if given.ids_are_counted else category


def _difference(known: LabelMap, given: LabelMap, *, weights: Path | str, data: Path | str) -> str:
    only_known, only_given = (
        ", ".join(
            category.name if given.ids_are_counted else f"{category.name} ({category.dataset_id})"
            for category in here.categories
            if _key(category, given) not in {_key(other, given) for other in there.categories}
        )
        for here, there in ((known, given), (given, known))
    )
    by, same = ("name", "names") if given.ids_are_counted else ("name (id)", "names and ids")
    return (
        f"the classes of {weights} and {data} differ by {by}: only in the weights "
        f"{only_known or '-'}; only in the data {only_given or '-'}; take data with the same category {same}"
    )
