"""Load weights from any source: a run, a model folder, an official checkpoint, transformers or the hub."""

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from condetr.errors import InputError
from condetr.exports.files import FORMATS, is_graph, read_graph
from condetr.inference.model_folder import CONFIG, LoadedModel, read_json, read_model
from condetr.inference.predictor import Predictor, find_model_folder, usable_device
from condetr.interop.classes import classes_of_map
from condetr.interop.hub import fetch, is_hub_id
from condetr.interop.official import read_official
from condetr.interop.torchvision_file import fetch_torchvision, is_torchvision_weights
from condetr.interop.transformers_folder import WEIGHT_FILES, read_transformers
from condetr.labels import LabelMap

Format = Literal["condetr", "official", "transformers", "graph"]
"""Formats of models; a `graph` runs, but its weights are not read back."""

CHECKPOINT_SUFFIXES = (".pth", ".pt")


class Source(NamedTuple):
    """The location of weights and their format."""

    path: Path
    format: Format


def load(weights: Path | str, *, device: str | torch.device | None = None) -> Predictor:
    """Load a model, ready to predict, by default on the GPU if there is one.

    `weights` is a run folder (for its best model), a model folder of condetr or of transformers, a .pth checkpoint
    of a detector's official code or of torchvision, a graph that `condetr convert` wrote (.onnx or
    .xml), the name of torchvision's weights such as `fcos_resnet50_fpn`, or
    an id on the Hugging Face hub. Raises InputError if there is no model, if it is damaged or of another kind, or if
    the device cannot be used.
    """
    source = find_source(weights)
    if source.format == "graph":
        return _load_graph(source.path, device=device)
    model = read(source).ready()
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
    if path.is_file() and is_graph(path):
        return Source(path, "graph")
    if path.is_file():
        if path.suffix.lower() not in CHECKPOINT_SUFFIXES:
            raise InputError(
                f"{path} is not an official checkpoint ({', '.join(CHECKPOINT_SUFFIXES)}) or a graph "
                f"({', '.join(FORMATS)}); give one, a run folder, a model folder or a hub id"
            )
        return Source(path, "official")
    name = path.as_posix()
    if not path.exists() and is_torchvision_weights(name):
        return Source(fetch_torchvision(name), "official")
    folder = fetch(name) if not path.exists() and is_hub_id(name) else find_model_folder(path)
    is_ours = "model_type" not in read_json(folder / CONFIG)
    return Source(folder, "condetr" if is_ours else "transformers")


def fingerprint(weights: Path | str) -> str:
    """Return the SHA-256 of the files of weights, which tells whether two names lead to the same; as `find_source`."""
    path = find_source(weights).path
    beside = path.parent.glob(f"{path.stem}.*") if path.is_file() else path.iterdir()  # a graph has two files
    digest = hashlib.sha256()
    for file in sorted(file for file in {path, *beside} if file.is_file()):
        with file.open("rb") as stream:
            digest.update(f"{file.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()


def read(source: Source, *, label_map: LabelMap | None = None) -> LoadedModel:
    """Read a model with all of its class rows; `label_map` overrides the classes of the file."""
    require_weights(source)
    if source.format == "official":
        return read_official(source.path, label_map=label_map)
    model = read_model(source.path) if source.format == "condetr" else read_transformers(source.path)
    if label_map is None:
        return model
    rows = model.label_map.num_rows
    return model._replace(label_map=classes_of_map(label_map, num_rows=rows, source=str(source.path)))


def require_weights(source: Source) -> None:
    """Raise InputError for a graph, whose weights and attention cannot be taken out of it."""
    if source.format == "graph":
        raise InputError(
            f"{source.path} is a graph, which predict and evaluate take, and nothing else; give the run or model "
            "folder that it was made from"
        )


def _load_graph(path: Path, *, device: str | torch.device | None) -> Predictor:
    """Load a graph, which runs on the CPU."""
    if device is not None and usable_device(device).type != "cpu":
        raise InputError(f"{path} is a graph, which runs on the CPU here; leave the device {device} out")
    exported = read_graph(path)
    about = exported.about
    return Predictor(
        exported.detector,
        transform=about.transform,
        label_map=about.label_map,
        threshold=about.threshold,
        device="cpu",
    )
