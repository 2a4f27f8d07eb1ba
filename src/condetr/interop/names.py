"""Our tensors under the names of the official code, and back."""

from collections.abc import Mapping

from torch import Tensor

from condetr.detectors import conditional_detr, detr
from condetr.detectors.original_names import original_name
from condetr.detectors.registry import DetectorConfig

ORIGINAL_NAMES = {"conditional_detr": conditional_detr.ORIGINAL_NAMES, "detr": detr.ORIGINAL_NAMES}

COUNTER = "num_batches_tracked"
"""Batch norms count batches; frozen ones, which published models have, do not."""


def to_original(tensors: Mapping[str, Tensor], config: DetectorConfig) -> dict[str, Tensor]:
    """Rename a detector's state; counters are left out."""
    renames = ORIGINAL_NAMES[config.kind]
    return {original_name(name, renames): tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}


def from_original(
    found: Mapping[str, Tensor], *, blank: Mapping[str, Tensor], config: DetectorConfig
) -> dict[str, Tensor]:
    """Give tensors, which must be complete, the names of the detector's blank state."""
    renames = ORIGINAL_NAMES[config.kind]
    counters = {name: tensor.new_zeros((), device="cpu") for name, tensor in blank.items() if name.endswith(COUNTER)}
    return {name: found[original_name(name, renames)] for name in blank if name not in counters} | counters
