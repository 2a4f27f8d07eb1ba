"""Checkpoints of a detector's official code: a .pth with `model` and an argparse.Namespace `args`."""

import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from condetr.backbones.resnet import ResNetConfig
from condetr.backbones.weights import is_state, unwrapped
from condetr.config import dump, from_mapping, settings
from condetr.data.transforms import PaperTransformConfig, TransformConfig
from condetr.detectors.published import Checkpoint, Published, Unseen
from condetr.errors import InputError, InputWarning
from condetr.inference.fit import require_fit
from condetr.inference.model_folder import LoadedModel, read_threshold
from condetr.interop.classes import classes_of_map, unnamed_classes
from condetr.interop.detectron2_file import is_detectron2_state, read_detectron2
from condetr.interop.original import copies_of, published_form, read_blank, to_original, without_copies
from condetr.interop.torchvision_file import read_torchvision
from condetr.labels import LabelMap
from condetr.storage.atomic import replaced_file
from condetr.storage.pickles import read_pickle, save_pickle

PROFILED = ("total_params", "total_ops")
"""Left in some checkpoints by a profiler."""


def read_official(path: Path, *, label_map: LabelMap | None = None) -> LoadedModel:
    """Read a checkpoint of the official code, on detectron2 too, or a state of torchvision's.

    The file does not name its classes. Without a `label_map`, 91 class rows are taken for COCO's ids; any other number
    of rows is named by numbers. Raises InputError, or MisfitError with every tensor that is missing, unknown or
    misshapen.
    """
    content = read_pickle(path)
    is_bare = bool(content) and is_state(content)
    found = _state({"model": content} if is_bare else content, source=path)
    if is_detectron2_state(found):
        return read_detectron2(found, source=str(path), label_map=label_map)
    if is_bare:
        return read_torchvision(found, source=str(path), label_map=label_map)
    arguments = content.get("args")
    unseen = _unseen(vars(arguments) if isinstance(arguments, Namespace) else {}, path=path)
    blank = read_blank(Checkpoint(found, unseen, str(path)))
    found = without_copies(found, blank.copies, source=str(path))
    require_fit(found, expected=blank.original, source=f"{path} does not fit {blank.config.kind}")
    classes = _classes(content, label_map, num_rows=blank.num_class_rows, source=path)
    transform, threshold = _transform(content, source=path), read_threshold(content, source=path)
    return LoadedModel(blank.filled(found), blank.config, transform, classes, threshold)


def write_official(path: Path, model: LoadedModel) -> None:
    """Write a checkpoint that the official code loads; that code ignores the added classes and preprocessing."""
    config = model.detector_config
    published = published_form(config, target="the official code")
    tensors = to_original(model.detector.state_dict(), config)
    copies = {copy: tensors[name] for copy, name in copies_of(tensors, config).items()}
    content = {
        "model": tensors | copies,
        "args": Namespace(**_arguments(model, published)),
        "label_map": model.label_map.to_list(),
        "transform": dump(model.transform),
        **({} if model.threshold is None else {"threshold": model.threshold}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as draft:
        save_pickle(content, draft)


@settings
class _Preparation:
    """Return the preprocessing of images, which is fixed in the official code."""

    transform: TransformConfig = PaperTransformConfig()


def _state(content: Mapping[str, Any], *, source: Path) -> dict[str, Tensor]:
    state = content.get("model")
    if not is_state(state) or not state:
        raise InputError(f"{source} holds no `model` with named tensors, as the official code's checkpoints do")
    return {name: tensor for name, tensor in unwrapped(state).items() if not name.endswith(PROFILED)}


def _unseen(arguments: Mapping[str, Any], *, path: Path) -> Unseen:
    if arguments.get("pre_norm"):
        raise InputError(f"{path} was trained with pre_norm, which condetr does not have")
    try:
        return Unseen(
            num_heads=int(arguments.get("nheads", 8)),
            dilation=bool(arguments["dilation"]) if "dilation" in arguments else _is_named_dc5(path),
            dropout=float(arguments.get("dropout", 0.1)),
            num_queries=int(arguments.get("num_queries", 300)),
        )
    except (TypeError, ValueError):
        raise InputError(f"{path} has args that are not numbers (nheads, dropout, num_queries)") from None


def _is_named_dc5(path: Path) -> bool:
    """Return whether the file's name contains DC5; warn, because the tensors cannot confirm it."""
    if "dc5" not in path.name.lower():
        return False
    sentence = f"{path} does not state whether its backbone is dilated; read as DC5 because of its name"
    warnings.warn(sentence, InputWarning, stacklevel=2)
    return True


def _classes(content: Mapping[str, Any], label_map: LabelMap | None, *, num_rows: int, source: Path) -> LabelMap:
    if label_map is None and "label_map" in content:
        try:
            label_map = LabelMap.from_list(content["label_map"])
        except InputError as error:
            raise InputError(f"{source} holds a label_map that cannot be used: {error}") from None
    if label_map is None:
        return unnamed_classes(num_rows)
    return classes_of_map(label_map, num_rows=num_rows, source=str(source))


def _transform(content: Mapping[str, Any], *, source: Path) -> TransformConfig:
    given = {"transform": content["transform"]} if "transform" in content else {}
    return from_mapping(_Preparation, given, source=str(source)).transform


def _arguments(model: LoadedModel, published: Published) -> dict[str, Any]:
    """Return these settings as the arguments of the official code."""
    config = model.detector_config
    assert isinstance(config.backbone, ResNetConfig)
    return {
        "backbone": f"resnet{config.backbone.depth}",
        "dilation": config.backbone.dilation,
        "position_embedding": "sine",
        **{name: getattr(config, setting) for name, setting in published.arguments.items()},
        "pre_norm": False,
        "masks": False,
        "aux_loss": True,
        "num_classes": model.label_map.num_rows,
    }
