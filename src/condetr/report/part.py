"""The images of a data set that a model is measured on, and what is known about them."""

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
    """A split, or what a run held out of it."""

    split: Split
    findings: tuple[Finding, ...]
    """What was found wrong in the whole split."""
    trained_on: int | None
    """How many of its images the run trained on; None where the weights do not say."""
    held_out: int | None = None
    """How many images the run held out in all, where the part is some of them."""

    def title(self, *, weights: Path | str, data: Path | str) -> str:
        """Say what is measured on what."""
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
    """Open the split that is named, else the validation split, else the test split, else the only one there is.

    Of that last one, a run that trained on some of its images is measured on the others: those that it held out.
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
