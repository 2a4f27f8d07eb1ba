"""Open a data set of any known layout, recognised by looking at what the user pointed to."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from condetr.data.dataset import Finding, Split
from condetr.data.findings import Fault, Note, Reading, findings_of, refused, strictly
from condetr.data.raw import Source
from condetr.data.recognise import recognise
from condetr.data.records import build_split
from condetr.data.splits import hold_out, named_split, role, split_of_role
from condetr.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DataSplits:
    """Training and validation data with one label map, and what was found wrong in either."""

    layout: str
    understood: str
    """What was recognised, in a line."""
    train: Split
    val: Split
    findings: tuple[Finding, ...]


def open_data(
    path: Path,
    *,
    train_split: str | None = None,
    val_split: str | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    skip_unreadable: bool = False,
) -> DataSplits:
    """Read the annotations of a data set and look at the header of every image file.

    Without `train_split` and `val_split` the data's own splits are taken; where it has no validation split,
    `val_fraction` of the training images, chosen by `seed`, is held out. `skip_unreadable` leaves out images that
    are missing or broken. Raises InputError for everything that cannot be used.
    """
    source = recognise(path)
    names = choose_splits(source, train_split=train_split, val_split=val_split)
    reading = _read_both(source, names, val_fraction=val_fraction, seed=seed, skip_unreadable=skip_unreadable)
    (train, val), notes = strictly(reading)
    return DataSplits(
        layout=source.layout, understood=source.understood, train=train, val=val, findings=findings_of(notes)
    )


def open_split(path: Path, *, split: str | None = None, skip_unreadable: bool = False) -> Split:
    """Read one split: the named one, otherwise the validation, the test or the only split, in this order."""
    found, _ = strictly(read_split(path, split=split, skip_unreadable=skip_unreadable))
    return found


def read_split(path: Path, *, split: str | None = None, skip_unreadable: bool = False) -> Reading[Split]:
    """Read the split that `open_split` opens, and note what is wrong with it."""
    source = recognise(path)
    name = named_split(source.splits, split, path=path) if split else _eval_split(source)
    return read_named(source, name, skip_unreadable=skip_unreadable)


def read_named(source: Source, name: str, *, skip_unreadable: bool = False) -> Reading[Split]:
    """Read one split of a recognised data set."""
    raw = yield from source.read([name])
    return (yield from build_split(raw, name, root=source.root, skip_unreadable=skip_unreadable))


def choose_splits(
    source: Source, *, train_split: str | None = None, val_split: str | None = None
) -> tuple[str, str | None]:
    """Return the names of the training and, if there is one, the validation split; given names count first."""
    train_name = _train_split(source, train_split)
    return train_name, _val_split(source, val_split, train_name=train_name)


def check_classes(train: Split, val: Split) -> Iterator[Note]:
    """Note classes that cannot be learned, and refuse a training split from which nothing can be learned."""
    used = {int(label) for record in train.records for label in record.labels[~record.is_crowd]}
    if not used:
        yield refused(Fault.NOTHING, f"the training split {train.name!r} has no boxes, so there is nothing to learn")
    spelt = Counter(" ".join(name.casefold().split()) for name in train.label_map.names)
    for training_id, name in enumerate(train.label_map.names):
        if spelt[" ".join(name.casefold().split())] > 1:
            yield Note(Fault.NAMED_ALIKE, repr(name))
        if training_id not in used:
            yield Note(Fault.UNUSED_CLASS, name)
    if not any((~record.is_crowd).any() for record in val.records):
        yield Note(Fault.NO_VALIDATION_BOX, val.name)


def _read_both(
    source: Source, names: tuple[str, str | None], *, val_fraction: float, seed: int, skip_unreadable: bool
) -> Reading[tuple[Split, Split]]:
    """Read the training and the validation split; hold out the latter where it has no name."""
    train_name, val_name = names
    raw = yield from source.read(list(dict.fromkeys((train_name, val_name or train_name))))
    train = yield from build_split(raw, train_name, root=source.root, skip_unreadable=skip_unreadable)
    if val_name is None:
        train, val = hold_out(train, fraction=val_fraction, seed=seed)
        yield Note(Fault.HELD_OUT, val.name, count=len(val))
    elif val_name == train_name:
        val = train
    else:
        val = yield from build_split(raw, val_name, root=source.root, skip_unreadable=skip_unreadable)
    yield from check_classes(train, val)
    for path_in_both in sorted({record.path for record in train.records} & {record.path for record in val.records}):
        yield Note(Fault.LEAK, path_in_both.name)
    return train, val


def _train_split(source: Source, wanted: str | None) -> str:
    if wanted is not None:
        return named_split(source.splits, wanted, path=source.root)
    found = split_of_role(source.splits, ("train", "trainval"), path=source.root) or _only_split(source)
    if found is None or role(found) in ("val", "test"):
        raise InputError(
            f"{source.root} has no training split; to train on another one, name it with --train-split: "
            f"{', '.join(source.splits)}"
        )
    return found


def _val_split(source: Source, wanted: str | None, *, train_name: str) -> str | None:
    if wanted is not None:
        return named_split(source.splits, wanted, path=source.root)
    others = [split for split in source.splits if split != train_name]
    return split_of_role(others, ("val",), path=source.root)


def _eval_split(source: Source) -> str:
    found = split_of_role(source.splits, ("val", "test"), path=source.root) or _only_split(source)
    if found is None:
        raise InputError(f"{source.root} has several splits, name the one to use: {', '.join(source.splits)}")
    return found


def _only_split(source: Source) -> str | None:
    return source.splits[0] if len(source.splits) == 1 else None
