"""Load weights from any source: a run, a model folder, an official checkpoint, transformers or the hub."""

from pathlib import Path
from typing import Literal, NamedTuple

import torch

from condetr.errors import InputError
from condetr.inference.model_folder import CONFIG, LoadedModel, read_json, read_model
from condetr.inference.predictor import Predictor, find_model_folder
from condetr.interop.classes import classes_of_map
from condetr.interop.hub import fetch, is_hub_id
from condetr.interop.official import read_official
from condetr.interop.torchvision_file import fetch_torchvision, is_torchvision_weights
from condetr.interop.transformers_folder import WEIGHT_FILES, read_transformers
from condetr.labels import LabelMap

Format = Literal["condetr", "official", "transformers", "onnx"]
"""Formats of models; `onnx` is only written."""

CHECKPOINT_SUFFIXES = (".pth", ".pt")


class Source(NamedTuple):
    """The location of weights and their format."""

    path: Path
    format: Format


def load(weights: Path | str, *, device: str | torch.device | None = None) -> Predictor:
    """Load a model, ready to predict, by default on the GPU if there is one.

    `weights` is a run folder (for its best model), a model folder of condetr or of transformers, a .pth checkpoint
    of a detector's official code or of torchvision, the name of torchvision's weights such as `fcos_resnet50_fpn`, or
    an id on the Hugging Face hub. Raises InputError if there is no model, if it is damaged or of another kind, or if
    the device cannot be used.
    """
    model = read(find_source(weights)).ready()
    return Predictor(
        model.detector,
        transform=model.transform,
        label_map=model.label_map,
        threshold=model.threshold,
        device=device,
    )


def find_source(weights: Path | str) -> Source:
    """Recognise the format of weights; a hub id is downloaded. Raises InputError if there are none."""
    path = Path(weights)
    if path.name in WEIGHT_FILES and path.is_file():
        path = path.parent
    if path.is_file():
        if path.suffix.lower() not in CHECKPOINT_SUFFIXES:
            raise InputError(
                f"{path} is not an official checkpoint ({', '.join(CHECKPOINT_SUFFIXES)}); give one, a run folder, a "
                "model folder or a hub id"
            )
        return Source(path, "official")
    name = path.as_posix()
    if not path.exists() and is_torchvision_weights(name):
        return Source(fetch_torchvision(name), "official")
    folder = fetch(name) if not path.exists() and is_hub_id(name) else find_model_folder(path)
    is_ours = "model_type" not in read_json(folder / CONFIG)
    return Source(folder, "condetr" if is_ours else "transformers")


def read(source: Source, *, label_map: LabelMap | None = None) -> LoadedModel:
    """Read a model with all of its class rows; `label_map` overrides the classes of the file."""
    if source.format == "official":
        return read_official(source.path, label_map=label_map)
    model = read_model(source.path) if source.format == "condetr" else read_transformers(source.path)
    if label_map is None:
        return model
    rows = model.label_map.num_rows
    return model._replace(label_map=classes_of_map(label_map, num_rows=rows, source=str(source.path)))
