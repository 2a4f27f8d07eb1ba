"""Examine a whole data set: read on where a training would refuse, and find everything that is wrong at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from condetr.data.dataset import Finding, Split
from condetr.data.findings import Fault, Note, Reading, findings_of, leniently, places_of, refused
from condetr.data.images import ImageHeader, read_headers
from condetr.data.raw import RawData, Source
from condetr.data.recognise import recognise
from condetr.data.records import build_split
from condetr.data.sources import check_classes, choose_splits, read_named
from condetr.data.splits import role
from condetr.doctor.contents import Content, Pair, content_findings, read_contents, similar_images
from condetr.doctor.plan import Plan
from condetr.doctor.quick import EXAMPLES, quick_findings
from condetr.errors import InputError
from condetr.labels import LabelMap
from condetr.words import counted

_SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, kw_only=True)
class Examination:
    """A data set as the doctor saw it."""

    source: Source
    raw: RawData
    """The annotations without what cannot be understood."""
    splits: Mapping[str, Split]
    """What a training could use of every split."""
    train: str
    """Name of the training split; the first split, where no name tells."""
    val: str | None
    headers: Mapping[Path, ImageHeader]
    """Of every image that begins and ends as one."""
    contents: Mapping[Path, Content]
    readable: Mapping[str, Sequence[Path]]
    """The images of every split that have headers and contents."""
    plan: Plan
    """What the data was held against."""
    similar: Sequence[Pair]
    """Images that look the same, although their bytes differ."""
    notes: tuple[Note, ...]
    """What reading the annotations found."""
    findings: tuple[Finding, ...]
    """Errors first, then warnings."""

    @property
    def label_map(self) -> LabelMap:
        """The classes, over all splits."""
        return self.raw.label_map

    def places(self, fault: Fault) -> tuple[str, ...]:
        """Return every place of a fault in the annotations."""
        return places_of(self.notes, fault)


def examine(
    path: Path, *, plan_for: Callable[[int], Plan], progress: Callable[[int, int], None] = lambda done, total: None
) -> Examination:
    """Read all splits of a data set and every image file; `progress` is called with the images done and in all.

    `plan_for` returns what so many training images are held against. Raises InputError where the data cannot be read at
    all: no known layout, or no annotation file that is one.
    """
    source = recognise(path)
    (raw, splits, train, val), notes = leniently(_read(source))
    plan = plan_for(len(splits[train]))
    headers = _headers(raw)
    contents = read_contents(list(headers), progress=progress)
    readable = {name: [image.path for image in images if image.path in headers] for name, images in raw.images.items()}
    similar = tuple(similar_images(readable, contents))
    train_and_others = [splits[train], *(split for name, split in splits.items() if name != train)]
    found = (
        findings_of(notes, most_examples=None),
        content_findings(readable, contents, headers=headers, similar=similar),
        _turned(headers),
        _several_frames(headers),
        _holes(raw.label_map),
        quick_findings(train_and_others, plan),
    )
    findings = [finding for some in found for finding in some]
    return Examination(
        source=source,
        raw=raw,
        splits=splits,
        train=train,
        val=val,
        headers=headers,
        contents=contents,
        readable=readable,
        plan=plan,
        similar=similar,
        notes=notes,
        findings=tuple(sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))),
    )


class _Annotated(NamedTuple):
    raw: RawData
    splits: dict[str, Split]
    train: str
    val: str | None


def _read(source: Source) -> Reading[_Annotated]:
    """Read all splits, and hold the training split against the validation split."""
    raw = yield from source.read(_apart(source.splits))
    splits = {}
    for name in raw.images:
        splits[name] = yield from build_split(raw, name, root=source.root)
    train, val = yield from _chosen(source, splits)
    yield from check_classes(splits[train], splits[val or train])
    return _Annotated(raw, splits, train, val)


class Glance(NamedTuple):
    """What reading annotations and the headers of images tells."""

    source: Source
    train: Split
    val: str | None
    num_unreadable: int
    refused: str | None
    """At what a training will stop, where skipping images does not help."""


def glance(path: Path, *, train_split: str | None = None, val_split: str | None = None) -> Glance:
    """Read the training split of a data set as far as it can be used, without decoding images.

    What is wrong is told by the training that follows. Raises InputError where the data cannot be read at all.
    """
    source = recognise(path)
    train, val = choose_splits(source, train_split=train_split, val_split=val_split)
    split, notes = leniently(read_named(source, train))
    faults = [fault for fault in Fault if fault.severity == "error" and fault is not Fault.BROKEN_IMAGE]
    refusal = next((place for fault in faults for place in places_of(notes, fault)), None)
    return Glance(source, split, val, num_unreadable=len(places_of(notes, Fault.BROKEN_IMAGE)), refused=refusal)


def _apart(splits: Sequence[str]) -> list[str]:
    """Leave out the union of training and validation images where its parts are there."""
    roles = {role(split) for split in splits}
    return [split for split in splits if role(split) != "trainval" or "train" not in roles]


def _chosen(source: Source, splits: Mapping[str, Split]) -> Reading[tuple[str, str | None]]:
    try:
        train, val = choose_splits(source)
    except InputError as error:
        yield refused(Fault.SPLIT_UNCLEAR, error)
        return next(iter(splits)), None
    return (train if train in splits else next(iter(splits))), (val if val in splits else None)


def _headers(raw: RawData) -> dict[Path, ImageHeader]:
    paths = list(dict.fromkeys(image.path for images in raw.images.values() for image in images))
    headers = zip(paths, read_headers(paths), strict=True)
    return {path: header for path, header in headers if isinstance(header, ImageHeader)}


def _turned(headers: Mapping[Path, ImageHeader]) -> Iterator[Finding]:
    turned = [path.name for path, header in headers.items() if header.is_turned]
    if turned:
        yield Finding(
            severity="info",
            what=f"{counted(len(turned), 'image')} turned by EXIF: boxes must be those of the image as displayed",
            count=len(turned),
            examples=tuple(turned[:EXAMPLES]),
        )


def _several_frames(headers: Mapping[Path, ImageHeader]) -> Iterator[Finding]:
    several = [path.name for path, header in headers.items() if header.has_more_frames]
    if several:
        yield Finding(
            severity="info",
            what=f"{counted(len(several), 'image')} with several pages or frames, of which only the first is used",
            count=len(several),
            examples=tuple(several[:EXAMPLES]),
        )


def _holes(label_map: LabelMap) -> Iterator[Finding]:
    ids = label_map.dataset_ids
    holes = ids[-1] - ids[0] + 1 - len(ids) if ids else 0
    if holes:
        yield Finding(
            severity="info",
            what=f"{counted(holes, 'hole')} in the category ids {ids[0]} to {ids[-1]}: training "
            f"counts the classes from 0 to {len(ids) - 1}, results carry your ids again",
            count=holes,
            examples=(),
        )
