"""Which split is meant: the roles that split names stand for, and the choice among those present."""

import random
import re
from collections.abc import Sequence
from pathlib import Path

from condetr.data.dataset import Split
from condetr.errors import InputError

_ROLES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "trainval": "trainval",
}
ROLES = frozenset(_ROLES.values())
"""What splits are for."""


def role(split: str) -> str:
    """Return what a split is for by its name, `train` for `train2017`; other names stand for themselves."""
    words = re.split(r"[^a-z]+", split.lower())
    return next((_ROLES[word] for word in words if word in _ROLES), split)


def named_split(splits: Sequence[str], wanted: str, *, path: Path) -> str:
    """Return the split that is called `wanted`, or the only one of that role; raise InputError where there is none."""
    matches = [split for split in splits if split == wanted] or [split for split in splits if role(split) == wanted]
    if len(matches) != 1:
        raise InputError(f"{path} has no split {wanted!r}; it has: {', '.join(splits)}")
    return matches[0]


def split_of_role(splits: Sequence[str], roles: Sequence[str], *, path: Path) -> str | None:
    """Return the split of the first role that any split has; raise InputError where several have it."""
    for wanted in roles:
        matches = [split for split in splits if split == wanted] or [split for split in splits if role(split) == wanted]
        if len(matches) > 1:
            raise InputError(f"{path} has several {wanted} splits, name the one to use: {', '.join(matches)}")
        if matches:
            return matches[0]
    return None


def held_out_count(count: int, *, fraction: float) -> int:
    """Return how many of `count` images, two at least, `hold_out` takes."""
    return min(count - 1, max(1, round(count * fraction)))


def hold_out(split: Split, *, fraction: float, seed: int) -> tuple[Split, Split]:
    """Divide a split at random into training and validation images, the same way on every machine."""
    count = len(split)
    if not 0 < fraction < 1:
        raise InputError(f"the fraction held out for validation must be between 0 and 1, got {fraction}")
    if count < 2:
        raise InputError(f"the split {split.name!r} has {count} image, too few to hold some out for validation")
    order = sorted(range(count), key=lambda index: split.records[index].path.as_posix())
    random.Random(f"hold out {seed}").shuffle(order)
    held = set(order[: held_out_count(count, fraction=fraction)])
    train = tuple(record for index, record in enumerate(split.records) if index not in held)
    val = tuple(record for index, record in enumerate(split.records) if index in held)
    return (
        Split(name=split.name, records=train, label_map=split.label_map),
        Split(name=f"{split.name} (held out)", records=val, label_map=split.label_map),
    )
