"""Model folders of the transformers library, read and written without it."""

from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from condetr.errors import InputError
from condetr.inference.atomic import write_json
from condetr.inference.fit import require_fit
from condetr.inference.model_folder import (
    CONFIG,
    WEIGHTS,
    LoadedModel,
    blank_state,
    filled_detector,
    read_json,
)
from condetr.interop.architecture import count_class_rows, read_architecture, require_published_form
from condetr.interop.names import COUNTER, from_original, to_original
from condetr.interop.transformers_config import (
    make_config,
    make_preprocessor,
    read_classes,
    read_transform,
    read_unseen,
)
from condetr.interop.transformers_names import (
    from_transformers,
    modules_from_transformers,
    to_transformers,
    to_version_4,
)
from condetr.interop.transformers_weights import find_weights, read_all_tensors

PREPROCESSOR = "preprocessor_config.json"


def read_transformers(folder: Path) -> LoadedModel:
    """Read a folder that transformers 4 or 5 wrote, or one fetched from the hub.

    Raises InputError, or MisfitError with every tensor that is missing, unknown or misshapen, by version 4's names.
    """
    path, source = find_weights(folder), str(folder / CONFIG)
    described = read_json(folder / CONFIG)
    preprocessor = read_json(folder / PREPROCESSOR) if (folder / PREPROCESSOR).is_file() else {}
    unseen = read_unseen(described, source=source)
    is_conditional = described["model_type"] == "conditional_detr"
    found = _read_tensors(path, is_conditional=is_conditional)
    modules = modules_from_transformers(found, is_conditional=is_conditional)
    config = read_architecture(modules, unseen=unseen, source=str(path))
    num_rows = count_class_rows(modules, config, source=str(path))
    blank = blank_state(config, num_class_rows=num_rows)
    expected = to_transformers(to_original(blank, config))
    require_fit(found, expected=expected, source=f"{path} does not fit {config.kind}")
    classes = read_classes(described, num_rows=num_rows, source=source)
    transform = read_transform(described, preprocessor, source=str(folder / PREPROCESSOR))
    official = from_transformers(found, is_conditional=is_conditional)
    detector = filled_detector(config, from_original(official, blank=blank, config=config), num_class_rows=num_rows)
    return LoadedModel(detector, config, transform, *classes)


def write_transformers(folder: Path, model: LoadedModel) -> None:
    """Write weights, config.json and preprocessor_config.json into an existing folder."""
    config = model.detector_config
    require_published_form(config, target="transformers")
    tensors = to_transformers(to_original(model.detector.state_dict(), config))
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG, make_config(model))
    write_json(folder / PREPROCESSOR, make_preprocessor(model))


def _read_tensors(path: Path, *, is_conditional: bool) -> dict[str, Tensor]:
    """Return the tensors under version 4's names; batch norms' counters, which nothing reads, are left out."""
    tensors = read_all_tensors(path)
    names = {name: to_version_4(name, is_conditional=is_conditional) for name in tensors if not name.endswith(COUNTER)}
    if len(set(names.values())) < len(names):
        raise InputError(f"{path} has some tensors twice, under old names and new; save the model again")
    return {new: tensors[old] for old, new in names.items()}
