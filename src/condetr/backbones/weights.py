"""Weights from local files into a backbone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from condetr.errors import InputError, first_line
from condetr.storage.pickles import TORCH_LOAD_ERRORS, load_pickle

WRAPPERS = re.compile(r"((module|_orig_mod)\.)*")
"""The prefixes that DistributedDataParallel and torch.compile add to every name."""


def load_weights(backbone: nn.Module, weights: Mapping[str, Tensor] | Path, *, source: str) -> None:
    """Load weights by name; entries that the backbone does not have (such as a classifier) are ignored.

    Raises InputError if the file cannot be read, or an entry is missing or has another shape.
    """
    state = read_weights(weights) if isinstance(weights, Path) else weights
    expected = backbone.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    if missing:
        raise InputError(
            f"{source} does not fit the backbone: {len(missing)} of {len(expected)} tensors are missing, the first is "
            f"{missing[0]!r}"
        )
    misshapen = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    if misshapen:
        name = misshapen[0]
        raise InputError(
            f"{source} does not fit the backbone: {name!r} has shape {tuple(state[name].shape)} instead of "
            f"{tuple(expected[name].shape)}"
        )
    backbone.load_state_dict({name: state[name] for name in expected if name in state}, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, or from a .pth file without running anything in it."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = load_pickle(path)
    except (SafetensorError, *TORCH_LOAD_ERRORS) as error:
        raise InputError(f"cannot read the weights file {path}: {first_line(error)}") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not is_state(state):
        raise InputError(f"{path} holds no state dict (a mapping of names to tensors)")
    return unwrapped(state)


def is_state(content: object) -> TypeGuard[dict[str, Tensor]]:
    """Tell whether this is a mapping of names to tensors, as `state_dict` returns."""
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names of the model itself, also if it was saved inside a wrapper."""
    wrapper = WRAPPERS.match(next(iter(state), ""))
    assert wrapper
    is_around_all = all(name.startswith(wrapper[0]) for name in state)
    return {name.removeprefix(wrapper[0]) if is_around_all else name: tensor for name, tensor in state.items()}
