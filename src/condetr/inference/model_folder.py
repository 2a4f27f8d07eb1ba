"""A trained detector on disk: `model.safetensors`, and `config.json` with its settings and preprocessing."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

import condetr
from condetr.config import dump, from_mapping, settings
from condetr.data.transforms import TransformConfig
from condetr.detectors.detector import Detector
from condetr.detectors.registry import DetectorConfig
from condetr.errors import InputError, first_line
from condetr.inference.fit import require_fit
from condetr.labels import LabelMap, Rows
from condetr.storage.atomic import replaced_folder, write_json

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


class LoadedModel(NamedTuple):
    """A detector with its preprocessing and label map, on the CPU and in evaluation mode."""

    detector: Detector
    detector_config: DetectorConfig
    transform: TransformConfig
    label_map: LabelMap
    threshold: float | None = None
    """The score threshold with the best F1 on the validation images; None if it is not known."""

    def ready(self) -> "LoadedModel":
        """Return the model with only the class rows of its classes; this changes the detector in place."""
        if self.label_map.rows is None:
            return self
        self.detector.keep_classes(self.label_map.rows.used)
        return self._replace(label_map=self.label_map.without_rows())


def save_model(
    folder: Path,
    detector: Detector,
    *,
    detector_config: DetectorConfig,
    transform: TransformConfig,
    label_map: LabelMap,
    threshold: float | None = None,
) -> None:
    """Write a model folder; it replaces an older one of the same name only once it is complete."""
    write_model(folder, LoadedModel(detector, detector_config, transform, label_map, threshold))


def write_model(folder: Path, model: LoadedModel) -> None:
    """Write a model folder with all of its class rows."""
    description = {
        "format": FORMAT,
        "condetr": condetr.__version__,
        "detector": dump(model.detector_config),
        "transform": dump(model.transform),
        "label_map": model.label_map.to_list(),
    }
    if model.threshold is not None:
        description["threshold"] = model.threshold
    if model.label_map.rows is not None:
        description["class_rows"] = {"all": model.label_map.rows.total, "used": list(model.label_map.rows.used)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.detector.state_dict().items()}
    with replaced_folder(folder) as draft:
        (draft / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
        write_json(draft / CONFIG, description)


def load_model(folder: Path) -> LoadedModel:
    """Load the detector of a model folder, ready for use.

    Nothing is downloaded: a pretrained backbone's weights are in the folder like all others. Raises InputError if the
    folder is incomplete or damaged.
    """
    return read_model(folder).ready()


def read_model(folder: Path) -> LoadedModel:
    """Load the detector of a model folder with all class rows; raises InputError as `load_model` does."""
    description = read_json(folder / CONFIG)
    _require_format(description, source=folder / CONFIG)
    parts = from_mapping(
        _Parts,
        {name: description.get(name) or {} for name in ("detector", "transform")},
        source=str(folder / CONFIG),
    )
    label_map = _read_label_map(description, source=folder / CONFIG)
    rows = _read_class_rows(description, num_classes=len(label_map), source=folder / CONFIG)
    label_map = replace(label_map, rows=rows)
    num_rows = label_map.num_rows
    tensors = read_safetensors(folder / WEIGHTS)
    expected = blank_state(parts.detector, num_class_rows=num_rows)
    require_fit(tensors, expected=expected, source=f"{folder / WEIGHTS} does not fit its {CONFIG}")
    detector = filled_detector(parts.detector, tensors, num_class_rows=num_rows)
    threshold = read_threshold(description, source=folder / CONFIG)
    return LoadedModel(detector, parts.detector, parts.transform, label_map, threshold)


def blank_state(config: DetectorConfig, *, num_class_rows: int) -> dict[str, Tensor]:
    """Return the state of a detector on the meta device: names and shapes without memory."""
    try:
        with torch.device("meta"):
            return config.build(num_classes=num_class_rows, pretrained=False).state_dict()
    # torch's errors for impossible numbers, such as -1 queries or a width of 10**30.
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"a detector with these settings cannot be built: {first_line(error)}; export the model again"
        ) from None


def filled_detector(config: DetectorConfig, tensors: Mapping[str, Tensor], *, num_class_rows: int) -> Detector:
    """Build a detector in evaluation mode with the given state, which must fit."""
    detector = config.build(num_classes=num_class_rows, pretrained=False)
    detector.load_state_dict(tensors)
    return detector.eval()


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors; raises InputError if it is missing or damaged."""
    try:
        return load_file(path)
    except OSError as error:
        raise InputError(f"cannot read the weights {path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error}); copy or export it again") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; raises InputError if it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path.parent} is not a model folder: cannot read {path.name} ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); export or train the model again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, found {type(content).__name__}; export the model again")
    return content


@settings
class _Parts:
    """The settings inside `config.json`."""

    detector: DetectorConfig
    transform: TransformConfig


def _require_format(description: Mapping[str, Any], *, source: Path) -> None:
    found = description.get("format")
    if found != FORMAT:
        raise InputError(
            f"{source} has format {found!r}, this version of condetr reads format {FORMAT}; export it again"
        )


def _read_label_map(description: Mapping[str, Any], *, source: Path) -> LabelMap:
    try:
        return LabelMap.from_list(description.get("label_map"))
    except InputError as error:
        raise InputError(f"{source} holds no usable label_map: {error}; export or train the model again") from None


def read_threshold(description: Mapping[str, Any], *, source: Path | str) -> float | None:
    """Return the model's own score threshold, None if there is none; raises InputError unless it is from 0 to 1."""
    threshold = description.get("threshold")
    if threshold is None:
        return None
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise InputError(f"{source} holds the threshold {threshold!r}, which is no number from 0 to 1; correct it")
    return float(threshold)


def _read_class_rows(description: Mapping[str, Any], *, num_classes: int, source: Path) -> Rows | None:
    if "class_rows" not in description:
        return None
    try:
        count, used = int(description["class_rows"]["all"]), tuple(map(int, description["class_rows"]["used"]))
    except (ArithmeticError, KeyError, TypeError, ValueError):
        count, used = 0, ()
    if len(set(used)) != num_classes or len(used) != num_classes or not all(0 <= row < count for row in used):
        raise InputError(f"{source} holds no usable class_rows: a row below {count} for each of {num_classes} classes")
    return Rows(used, count)
