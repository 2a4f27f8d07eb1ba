"""Model folders of the transformers library, read and written without it."""

import re
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from condetr.backbones.weights import is_state
from condetr.detectors.published import Checkpoint, TransformersModel, original_name
from condetr.errors import InputError
from condetr.inference.fit import require_fit
from condetr.inference.model_folder import CONFIG, WEIGHTS, LoadedModel, read_json, read_safetensors
from condetr.interop.original import COUNTER, Blank, copies_of, read_blank, to_original, without_copies
from condetr.interop.transformers_config import (
    make_config,
    make_preprocessor,
    read_classes,
    read_model_type,
    read_own_threshold,
    read_transform,
    read_unseen,
    transformers_model,
)
from condetr.interop.transformers_names import (
    from_transformers,
    modules_from_transformers,
    to_transformers,
    to_version_4,
    transformers_name,
)
from condetr.storage.atomic import write_json
from condetr.storage.pickles import read_pickle

State = dict[str, Tensor]

PREPROCESSOR = "preprocessor_config.json"


def read_transformers(folder: Path) -> LoadedModel:
    """Read a folder that transformers 4 or 5 wrote, or that was downloaded from the hub.

    Raises InputError, or MisfitError with every tensor that is missing, unknown or misshapen, by version 4's names.
    """
    path, source = find_weights(folder), str(folder / CONFIG)
    described = read_json(folder / CONFIG)
    preprocessor = read_json(folder / PREPROCESSOR) if (folder / PREPROCESSOR).is_file() else {}
    theirs = read_model_type(described, source=source)
    found = _read_tensors(path, theirs=theirs)
    modules, unseen = modules_from_transformers(found, theirs=theirs), read_unseen(described, source=source)
    blank = read_blank(Checkpoint(modules, unseen, str(path)))
    expected = to_transformers(blank.original, theirs=theirs)
    found = _untied(_without_copies(found, blank, theirs=theirs, source=str(path)), expected=expected, theirs=theirs)
    require_fit(found, expected=expected, source=f"{path} does not fit {blank.config.kind}")
    classes = read_classes(described, num_rows=blank.num_class_rows, source=source)
    transform = read_transform(described, preprocessor, source=str(folder / PREPROCESSOR))
    detector = blank.filled(from_transformers(found, theirs=theirs))
    return LoadedModel(detector, blank.config, transform, classes, read_own_threshold(described, source=source))


def write_transformers(folder: Path, model: LoadedModel) -> None:
    """Write weights, config.json and preprocessor_config.json into an existing folder."""
    theirs = transformers_model(model.detector_config)
    original = to_original(model.detector.state_dict(), model.detector_config)
    for copy, name in copies_of(original, model.detector_config).items():
        if re.match(theirs.kept_copies, copy):
            original[copy] = original.pop(name)
    tensors = to_transformers(original, theirs=theirs)
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG, make_config(model))
    write_json(folder / PREPROCESSOR, make_preprocessor(model))


def _without_copies(found: State, blank: Blank, *, theirs: TransformersModel, source: str) -> State:
    """Return every tensor once, under the name that the official code has first."""
    copies = {
        transformers_name(copy, theirs=theirs): transformers_name(name, theirs=theirs)
        for copy, name in blank.copies.items()
    }
    return without_copies(found, copies, source=source)


def _untied(found: State, *, expected: State, theirs: TransformersModel) -> State:
    """Return tensors that were saved as one as often as they are expected, unless there are several already."""
    tied = {name: one for name in expected if (one := original_name(name, theirs.tied)) != name and one in found}
    return found if tied.keys() & found.keys() else found | {name: found[one] for name, one in tied.items()}


def _read_tensors(path: Path, *, theirs: TransformersModel) -> dict[str, Tensor]:
    """Return the tensors under version 4's names, without the unused counters of batch norms."""
    tensors = read_all_tensors(path)
    names = {name: to_version_4(name, theirs=theirs) for name in tensors if not name.endswith(COUNTER)}
    if len(set(names.values())) < len(names):
        raise InputError(f"{path} has some tensors twice, under old and new names; save the model again")
    return {new: tensors[old] for old, new in names.items()}


PICKLE = "pytorch_model.bin"
INDEX = ".index.json"
WEIGHT_FILES = (WEIGHTS, WEIGHTS + INDEX, PICKLE, PICKLE + INDEX)
"""File names of weights; the first that exists is used, as in transformers."""


def has_weights(folder: Path) -> bool:
    """Tell whether a folder holds weights or an index of weights."""
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
            raise InputError(f"{index} names {shard}, which does not exist; copy or download it, too")
        held = _read_file(index.parent / shard)
        strays = sorted(held.keys() ^ {name for name, place in places.items() if place == shard})
        if strays:
            raise InputError(f"{index} and {shard} do not agree on the tensor {strays[0]}; copy or download both again")
        tensors |= held
    return tensors


def _read_index(index: Path) -> dict[str, str]:
    """Return the file of each tensor; raises InputError unless these are file names without folders."""
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
        raise InputError(f"{path} holds something other than named tensors; save the model again with save_pretrained")
    return content
