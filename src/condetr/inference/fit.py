"""Check whether the tensors of a file are those that a detector expects, and list all differences."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from condetr.errors import InputError

Shape = tuple[int, ...]

NAMED_IN_A_SENTENCE = 3


class Misfit(NamedTuple):
    """A tensor in which a file and a detector differ."""

    name: str
    expected: Shape | None
    """The detector's shape, None if it has no such tensor."""
    found: Shape | None
    """The file's shape, None if it has no such tensor."""

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.name} is missing"
        if self.expected is None:
            return f"{self.name} is not part of the detector"
        return f"{self.name} has shape {self.found} instead of {self.expected}"


class MisfitError(InputError):
    """A file does not fit; `misfits` lists tensors of the wrong shape, missing ones and unknown ones, in this order."""

    def __init__(self, source: str, misfits: list[Misfit]) -> None:
        named = "; ".join(map(str, misfits[:NAMED_IN_A_SENTENCE]))
        more = len(misfits) - NAMED_IN_A_SENTENCE
        super().__init__(f"{source}: {named}" + (f" and {more} more" if more > 0 else ""))
        self.misfits = misfits


def require_fit(found: Mapping[str, Tensor], *, expected: Mapping[str, Tensor], source: str) -> None:
    """Raise MisfitError unless both have the same names with the same shapes; `source` begins the sentence."""
    shapes = {name: (_shape(expected, name), _shape(found, name)) for name in {**expected, **found}}
    misfits = [Misfit(name, *pair) for name, pair in shapes.items() if pair[0] != pair[1]]
    if misfits:
        raise MisfitError(source, sorted(misfits, key=_severity))


def _shape(tensors: Mapping[str, Tensor], name: str) -> Shape | None:
    return tuple(tensors[name].shape) if name in tensors else None


def _severity(misfit: Misfit) -> int:
    return 1 if misfit.found is None else 2 if misfit.expected is None else 0
