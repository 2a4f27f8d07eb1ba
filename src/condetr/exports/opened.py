"""A graph in a file, ready to run."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from condetr.detectors.exported import Run


class Opened(NamedTuple):
    """A graph that a library has loaded."""

    library: str
    """Its name and version."""
    texts: Mapping[str, str]
    """The metadata of the file."""
    inputs: Sequence[str]
    outputs: Sequence[str]
    run: Run
    shapes: Mapping[str, Sequence[int | None]] = {}
    """The sizes of inputs and outputs, as far as the library tells them, None where any will do."""
