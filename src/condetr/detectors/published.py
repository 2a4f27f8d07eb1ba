"""What a detector is known by outside: its paper, the names in its official checkpoints, its place in transformers.

A detector that others publish weights of says so at the end of its file, in a value `PUBLISHED`. Whoever reads and
writes files of other libraries goes by these values and knows no detector by name.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

Renames = tuple[tuple[str, str], ...]
"""Parts of names as regular expressions and what takes their place, one after the other."""


class Unseen(NamedTuple):
    """What shapes do not show, the published models' values by default."""

    num_heads: int = 8
    dilation: bool = False
    dropout: float = 0.1


class Checkpoint(NamedTuple):
    """Tensors under their official names; `source` names them in errors."""

    tensors: Mapping[str, Tensor]
    unseen: Unseen
    source: str


class Reading(NamedTuple):
    """What a checkpoint says of its detector."""

    settings: Mapping[str, Any]
    """Those of our settings that other libraries have too."""
    head_rows: int
    """How many rows the class head has, with those that stand for no class."""


@dataclass(frozen=True, kw_only=True)
class TransformersModel:
    """A detector in the transformers library. Names are those of version 4, which version 5 writes, too."""

    model_type: str
    class_prefix: str
    """What the names of its classes begin with, as in DetrForObjectDetection."""
    settings: Mapping[str, str]
    """Keys of its config.json, and the setting of ours that each of them holds."""
    modules: Mapping[str, str]
    """Its modules by those of the official code; a star stands for a number."""
    fused: Mapping[str, str]
    """Attention whose query, key and value projections are one matrix in the official code and three here."""
    version_5_names: Renames = ()
    """What only this detector's tensors are called in the memory of version 5, and in version 4."""
    loss_weights: Mapping[str, int | float]
    """What its config.json says of the loss, should it be trained there."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a detector is known by."""

    title: str
    paper: str
    """Its title as a link in Markdown."""
    mark: str
    """A tensor that only the official checkpoints of this detector have."""
    original_names: Renames
    """From our parameters' names to those of the official checkpoints."""
    read: Callable[[Checkpoint], Reading]
    """Reads the settings off a checkpoint; raises InputError if tensors are missing that they show in."""
    arguments: Mapping[str, str]
    """Arguments of the official code, and the setting of ours that each of them holds."""
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


def original_name(name: str, renames: Renames) -> str:
    """Return the published name of one of our parameters."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name
