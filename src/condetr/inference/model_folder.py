"""A trained detector on disk: `model.safetensors` and the `config.json` that says how to build and feed it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import condetr
from condetr.config import dump, from_mapping, settings
from condetr.data.transforms import TransformConfig
from condetr.detectors.registry import DetectorConfig
from condetr.errors import InputError
from condetr.inference.atomic import replaced_folder
from condetr.labels import LabelMap

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


class LoadedModel(NamedTuple):
    """What a model folder holds; the detector is on the CPU and in evaluation mode."""

    detector: nn.Module
    detector_config: DetectorConfig
    transform: TransformConfig
    label_map: LabelMap


def save_model(
    folder: Path,
    detector: nn.Module,
    *,
    detector_config: DetectorConfig,
    transform: TransformConfig,
    label_map: LabelMap,
) -> None:
    """Write a model folder; an older one of the same name stays whole until the new one is complete."""
    description = {
        "format": FORMAT,
        "condetr": condetr.__version__,
        "detector": dump(detector_config),
        "transform": dump(transform),
        "label_map": label_map.to_list(),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    with replaced_folder(folder) as draft:
        try:
            save_file(tensors, draft / WEIGHTS, metadata={"format": "pt"})
        except SafetensorError as error:  # what it makes of a full disk
            raise OSError(str(error)) from error
        (draft / CONFIG).write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_model(folder: Path) -> LoadedModel:
    """Build the detector that `save_model` wrote; raises InputError if the folder is incomplete or damaged.

    Nothing is downloaded: a pretrained backbone's weights are in the folder like all others.
    """
    description = _read_description(folder / CONFIG)
    parts = from_mapping(
        _Parts,
        {name: description.get(name) or {} for name in ("detector", "transform")},
        source=str(folder / CONFIG),
    )
    label_map = _read_label_map(description, source=folder / CONFIG)
    detector = parts.detector.build(num_classes=len(label_map), pretrained=False)
    _load_weights(detector, folder / WEIGHTS)
    return LoadedModel(detector.eval(), parts.detector, parts.transform, label_map)


@settings
class _Parts:
    """The settings inside `config.json`."""

    detector: DetectorConfig
    transform: TransformConfig


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path.parent} is not a model folder: cannot read {path.name} ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); export or train the model again") from None
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT:
        raise InputError(f"{path} has format {found!r}, this version of condetr reads format {FORMAT}; export it again")
    return description  # type: ignore[no-any-return]


def _read_label_map(description: dict[str, Any], *, source: Path) -> LabelMap:
    try:
        return LabelMap.from_list(description["label_map"])
    except (KeyError, TypeError):
        raise InputError(f"{source} holds no usable label_map; export or train the model again") from None


def _load_weights(detector: nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
    except OSError as error:
        raise InputError(f"cannot read the weights {path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}); copy or export it again") from None
    complaints = _differences(expected=detector.state_dict(), found=tensors)
    if complaints:
        more = f" and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise InputError(f"{path} does not fit its {CONFIG}: {'; '.join(complaints[:3])}{more}")
    detector.load_state_dict(tensors)


def _differences(*, expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """Say what keeps `found` from filling `expected`, worst first."""
    shapes = [
        f"{name} has shape {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    missing = [f"{name} is missing" for name in expected if name not in found]
    surplus = [f"{name} is not part of the detector" for name in found if name not in expected]
    return shapes + missing + surplus
