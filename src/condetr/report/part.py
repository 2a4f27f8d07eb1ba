"""The part of a data set that a model is evaluated on, and whether the model was trained on it."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from condetr.data.dataset import Finding, Split
from condetr.data.findings import findings_of, strictly
from condetr.data.sources import read_split
from condetr.data.splits import role
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
