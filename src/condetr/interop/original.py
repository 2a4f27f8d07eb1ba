"""Detectors under the tensor names of their official code, to which all other formats are converted first."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import NamedTuple

import torch
from torch import Tensor

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.detector import Detector
from condetr.detectors.published import Checkpoint, Published, original_name
from condetr.detectors.registry import PUBLISHED, DetectorConfig
from condetr.errors import InputError
from condetr.inference.model_folder import blank_state, filled_detector

COUNTER = "num_batches_tracked"
"""Batch norms count batches; the frozen ones of published models do not."""


class Blank(NamedTuple):
    """A detector without weights: the names and shapes of its tensors."""

    config: DetectorConfig
    num_class_rows: int
    state: dict[str, Tensor]

    @property
    def original(self) -> dict[str, Tensor]:
        """The state under official names."""
        return to_original(self.state, self.config)

    @property
    def copies(self) -> dict[str, str]:
        """Second names that official checkpoints have for tensors, and the first ones."""
        return copies_of(self.original, self.config)

    def filled(self, found: Mapping[str, Tensor]) -> Detector:
        """Build the detector, in evaluation mode, from official tensors that fit."""
        tensors = from_original(found, blank=self.state, config=self.config)
        return filled_detector(self.config, tensors, num_class_rows=self.num_class_rows)


def read_blank(checkpoint: Checkpoint) -> Blank:
    """Return the detector with tensors of these shapes; raises InputError if it is not a published one."""
    kind = _recognised(checkpoint)
    read = PUBLISHED[kind].read
    settings, head_rows = read(checkpoint)
    config = kind(**settings)
    # A head may have more rows than classes, for "no object": as many as in the head for one class.
    smallest = to_original(blank_state(config, num_class_rows=1), config)
    num_rows = head_rows - read(checkpoint._replace(tensors=smallest)).head_rows + 1
    return Blank(config, num_rows, blank_state(config, num_class_rows=num_rows))


def published_form(config: DetectorConfig, *, target: str) -> Published:
    """Return the published form of a detector; raises InputError if other libraries cannot represent these settings."""
    published = PUBLISHED.get(type(config))
    if published is None:
        raise InputError(f"condetr does not write {config.kind} for {target}, only in its own format")
    plain = type(config)()
    shared = {"backbone", "criterion", *published.arguments.values()}
    deviations = [
        f"{field.name}={value}"
        for field in fields(config)
        if (value := getattr(config, field.name)) != getattr(plain, field.name) and field.name not in shared
    ]
    deviations.extend(published.deviations(config))
    if not isinstance(config.backbone, ResNetConfig):
        deviations.append(f"backbone.kind={config.backbone.kind}")
    if deviations:
        raise InputError(f"{target} has no detector with {', '.join(deviations)}; only condetr's own format has it")
    return published


def to_original(tensors: Mapping[str, Tensor], config: DetectorConfig) -> dict[str, Tensor]:
    """Rename a detector's state, without the batch counters."""
    renames = PUBLISHED[type(config)].original_names
    return {original_name(name, renames): tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}


def copies_of(tensors: Iterable[str], config: DetectorConfig) -> dict[str, str]:
    """Return the second names that official checkpoints have for some of these tensors, and the first ones."""
    modules = PUBLISHED[type(config)].copies(config).items()
    return {copy + name.removeprefix(kept): name for copy, kept in modules for name in tensors if _is_in(name, kept)}


def without_copies(tensors: Mapping[str, Tensor], copies: Mapping[str, str], *, source: str) -> dict[str, Tensor]:
    """Return every tensor under its first name; raises InputError if a copy is another one."""
    kept = {name: tensor for name, tensor in tensors.items() if name not in copies}
    for copy in tensors.keys() & copies.keys():
        if not torch.equal(kept.setdefault(copies[copy], tensors[copy]), tensors[copy]):
            raise InputError(f"{source} holds two tensors in {copy} and {copies[copy]}, which are one in this detector")
    return kept


def _is_in(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")


def from_original(
    found: Mapping[str, Tensor], *, blank: Mapping[str, Tensor], config: DetectorConfig
) -> dict[str, Tensor]:
    """Rename a complete set of tensors to the names of the detector's blank state."""
    renames = PUBLISHED[type(config)].original_names
    counters = {name: tensor.new_zeros((), device="cpu") for name, tensor in blank.items() if name.endswith(COUNTER)}
    return {name: found[original_name(name, renames)] for name in blank if name not in counters} | counters


def _recognised(checkpoint: Checkpoint) -> type[DetectorConfig]:
    tensors = checkpoint.tensors
    kind = next((kind for kind, published in PUBLISHED.items() if published.mark in tensors), None)
    if kind is not None:
        return kind
    titles = [published.title for published in PUBLISHED.values()]
    # Segmentation models contain the detector, under its name in transformers.
    inside = tuple(
        f"{published.transformers.model_type}." for published in PUBLISHED.values() if published.transformers
    )
    segments = any(name.startswith(inside) for name in tensors)
    first = next(iter(tensors), "nothing")
    what = "a segmentation model" if segments else f"neither {' nor '.join(titles)} (it begins with {first!r})"
    raise InputError(f"{checkpoint.source} holds {what}; give weights of {' or '.join(titles)}")
