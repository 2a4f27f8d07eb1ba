"""The published form of a detector: its paper, the names in its official checkpoints, its form in transformers.

A detector with published weights describes them at the end of its file, in a value `PUBLISHED`. Code that reads and
writes files of other libraries only uses these values, and names no detector.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

Renames = tuple[tuple[str, str], ...]
"""Parts of names as regular expressions, and their replacements, applied in order."""


class Unseen(NamedTuple):
    """Settings that shapes do not show, with the published models' values as defaults."""

    num_heads: int = 8
    dilation: bool = False
    dropout: float = 0.1
    num_queries: int = 300
    """Of a detector that makes its queries from the image."""


class Checkpoint(NamedTuple):
    """Tensors under their official names; `source` names them in errors."""

    tensors: Mapping[str, Tensor]
    unseen: Unseen
    source: str


class Reading(NamedTuple):
    """The settings of a checkpoint's detector."""

    settings: Mapping[str, Any]
    """The settings that other libraries have too."""
    head_rows: int
    """The number of rows of the class head, including those without a class."""


@dataclass(frozen=True, kw_only=True)
class TransformersModel:
    """A detector in the transformers library. Names are those of version 4, which version 5 also writes."""

    model_type: str
    class_prefix: str
    """The prefix of its class names, as in DetrForObjectDetection."""
    settings: Mapping[str, str]
    """Keys of its config.json, and the corresponding settings in condetr."""
    modules: Mapping[str, str]
    """Its module names by those of the official code; a star stands for a number."""
    fused: Mapping[str, str]
    """Attention whose query, key and value projections are one matrix in the official code and three here."""
    version_5_names: Renames = ()
    """Names that only this detector's tensors have in memory in version 5, and in version 4."""
    loss_weights: Mapping[str, int | float]
    """The loss settings in its config.json, for training in transformers."""
    kept_copies: str = r"(?!)"
    """Which of the official code's copies it keeps in place of what they are copies of: an expression for their
    official names; none by default."""
    tied: Renames = ()
    """Names there of tensors that are one until they are trained apart, and the name that it has while they are."""


def no_copies(_: Any) -> Mapping[str, str]:  # noqa: ANN401 - the settings of any detector
    """Return that no module has a second name."""
    return {}


def no_deviations(_: Any) -> tuple[str, ...]:  # noqa: ANN401 - the settings of any detector
    """Return that other libraries have all values of the settings that they share."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Published:
    """The published form of a detector."""

    title: str
    paper: str
    """Its title as a link in Markdown."""
    mark: str
    """A tensor that only the official checkpoints of this detector have."""
    original_names: Renames
    """Renames condetr's parameters to those of the official checkpoints."""
    read: Callable[[Checkpoint], Reading]
    """Derives the settings from a checkpoint; raises InputError if the necessary tensors are missing."""
    arguments: Mapping[str, str]
    """Arguments of the official code, and the corresponding settings in condetr."""
    copies: Callable[[Any], Mapping[str, str]] = no_copies
    """From settings to the second names of modules that official checkpoints hold twice, and their first names."""
    deviations: Callable[[Any], tuple[str, ...]] = no_deviations
    """From settings to those that other libraries know, but not with this value."""
    transformers: TransformersModel | None = None
    """None if that library does not have this detector."""


@dataclass(frozen=True, kw_only=True)
class TorchvisionModel:
    """A detector of torchvision, whose files are states and nothing else."""

    builder: str
    """The function of `torchvision.models.detection` that makes it; its published weights are known by it, too."""
    mark: str
    """A tensor that only this detector has."""
    class_head: str
    """The weights that have a row for each class, once arranged."""
    rest_rows: int
    """How many of these rows belong to no class."""
    first_label: int
    """torchvision's label of the first row's class."""
    names: Renames
    """From our parameters' names to its."""
    arranged: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """Brings rows that belong to classes into our order."""
    settings: Mapping[str, Any]
    """Those in which it is unlike our defaults."""
    without_epsilon: str | None = None
    """How the names of files begin whose frozen norms add nothing to the variances."""


@dataclass(frozen=True, kw_only=True)
class Detectron2Model:
    """A detector that its authors built on detectron2, whose checkpoints are read."""

    title: str
    mark: str
    """A tensor that only this detector has."""
    class_head: str
    """The weights that have a row for each class."""
    rest_rows: int
    """How many of these rows, the last ones, belong to no class."""
    names: Renames
    """From our parameters' names to its; those of backbone and pyramid are detectron2's."""
    read: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    """Derives the settings that shapes show; raises KeyError if a tensor is missing."""


def original_name(name: str, renames: Renames) -> str:
    """Return the published name of one of condetr's parameters."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name
