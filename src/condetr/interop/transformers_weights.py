"""The weights of a transformers folder: a file, or several with an index; safetensors, or pickles as it once wrote."""

from pathlib import Path

from torch import Tensor

from condetr.backbones.weights import is_state
from condetr.errors import InputError
from condetr.inference.model_folder import WEIGHTS, read_json, read_safetensors
from condetr.interop.pickles import read_pickle

PICKLE = "pytorch_model.bin"
INDEX = ".index.json"
WEIGHT_FILES = (WEIGHTS, WEIGHTS + INDEX, PICKLE, PICKLE + INDEX)
"""Where weights may be; the first that is there counts, as in transformers."""


def has_weights(folder: Path) -> bool:
    """Whether weights are there, or the index of some."""
    return any((folder / name).is_file() for name in WEIGHT_FILES)


def find_weights(folder: Path) -> Path:
    """Return the file of weights, or the index of several; raises InputError if there is none."""
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if path is None:
        *names, last = WEIGHT_FILES
        raise InputError(f"{folder} holds no weights (looked for {', '.join(names)} or {last}); copy them there")
    return path


def read_all_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, or of all that an index names; raises InputError if one is missing or damaged."""
    return _read_shards(path) if path.name.endswith(INDEX) else _read_file(path)


def _read_shards(index: Path) -> dict[str, Tensor]:
    places = _read_index(index)
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(places.values())):
        if not (index.parent / shard).is_file():
            raise InputError(f"{index} names {shard}, which is not there; copy or download it, too")
        held = _read_file(index.parent / shard)
        strays = sorted(held.keys() ^ {name for name, place in places.items() if place == shard})
        if strays:
            raise InputError(f"{index} and {shard} do not agree on the tensor {strays[0]}; copy or download both again")
        tensors |= held
    return tensors


def _read_index(index: Path) -> dict[str, str]:
    """Return the file that each tensor is in; raises InputError unless these are names without folders."""
    places = read_json(index).get("weight_map")
    is_map = isinstance(places, dict) and all(
        isinstance(place, str) and place == Path(place).name for place in places.values()
    )
    if not is_map or not places:
        raise InputError(f"{index} has no weight_map from tensors to files beside it; copy or download it again")
    return dict(places)


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    content = read_pickle(path)
    if not is_state(content):
        raise InputError(f"{path} holds other things than named tensors; save the model again with save_pretrained")
    return content
