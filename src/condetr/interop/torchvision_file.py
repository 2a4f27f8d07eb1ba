"""Detectors of torchvision: a .pth with a state dict and nothing else, or the name of weights that it publishes."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from condetr.backbones.resnet import ResNetConfig
from condetr.data.transforms import PaperTransformConfig
from condetr.detectors.published import TorchvisionModel, original_name
from condetr.detectors.registry import TORCHVISION, DetectorConfig
from condetr.errors import InputError
from condetr.inference.fit import require_fit
from condetr.inference.model_folder import LoadedModel, blank_state, filled_detector
from condetr.interop.classes import COCO_ROWS, classes_by_row, classes_of_map, coco_classes
from condetr.labels import Category, LabelMap, Rows

OLD_NAMES = (
    (r"(\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
)
"""Of convolutions in files that were written before torchvision 0.13."""
EPSILON = 1e-5
"""What norms add to variances."""
COUNTER = "num_batches_tracked"
"""Batch norms count batches; those that a detector freezes do not."""


def is_torchvision_weights(name: str) -> bool:
    """Tell whether this names weights, as `fcos_resnet50_fpn` or `FCOS_ResNet50_FPN_Weights.COCO_V1` do."""
    return _builder(name) in {model.builder for model in TORCHVISION.values()}


def fetch_torchvision(name: str) -> Path:
    """Return the file of published weights, which is downloaded once; raises InputError if it cannot be."""
    weights = torchvision.models.get_model_weights(_builder(name)).DEFAULT
    try:
        weights.get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise InputError(
            f"torchvision's weights {name} could not be downloaded from {weights.url} ({error}); get the file "
            "elsewhere and give its path"
        ) from None
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def read_torchvision(state: Mapping[str, Tensor], *, source: str, label_map: LabelMap | None = None) -> LoadedModel:
    """Read a detector's state; raises InputError, or MisfitError with every tensor that does not fit.

    It says nothing about classes: `label_map` does, or 91 labels are taken for COCO's ids, the first of which is the
    background, and others are named by their number.
    """
    kind, model = _recognised(state, source=source)
    state = {original_name(name, OLD_NAMES): tensor for name, tensor in state.items() if not name.endswith(COUNTER)}
    try:
        found = model.arranged(state)
        num_rows = len(found[model.class_head]) - model.rest_rows
    except KeyError as error:
        raise InputError(f"{source} has no {error.args[0]}, as every {model.builder} has; it is incomplete") from None
    if model.without_epsilon and Path(source).name.startswith(model.without_epsilon):
        found = {name: tensor - EPSILON if name.endswith("running_var") else tensor for name, tensor in found.items()}
    config = kind(backbone=ResNetConfig(), **model.settings)
    blank = blank_state(config, num_class_rows=num_rows)
    names = {name: original_name(name, model.names) for name in blank}
    expected = {their_name: blank[name] for name, their_name in names.items()}
    require_fit(found, expected=expected, source=f"{source} is no {model.builder}")
    tensors = {name: found[their_name] for name, their_name in names.items()}
    detector = filled_detector(config, tensors, num_class_rows=num_rows)
    classes = _classes(label_map, num_labels=num_rows + model.first_label, first_label=model.first_label, source=source)
    return LoadedModel(detector, config, PaperTransformConfig(), classes)


def _builder(name: str) -> str:
    return name.lower().removesuffix(".default").removesuffix(".coco_v1").removesuffix("_weights")


def _recognised(state: Mapping[str, Tensor], *, source: str) -> tuple[type[DetectorConfig], TorchvisionModel]:
    found = next(((kind, model) for kind, model in TORCHVISION.items() if model.mark in state), None)
    if found is None:
        builders = " or ".join(model.builder for model in TORCHVISION.values())
        first = next(iter(state), "nothing")
        raise InputError(f"{source} holds a state that begins with {first!r}; of torchvision give one of {builders}")
    return found


def _classes(label_map: LabelMap | None, *, num_labels: int, first_label: int, source: str) -> LabelMap:
    """Return the classes of a head whose first row has the given label."""
    if label_map is None and num_labels == COCO_ROWS:
        label_map = coco_classes().without_rows()
    if label_map is None:
        labels = range(first_label, num_labels)
        return classes_by_row(
            {label - first_label: Category(label, f"class {label}") for label in labels}, num_rows=len(labels)
        )
    if len(label_map) == num_labels - first_label:
        return label_map.without_rows()
    by_label = classes_of_map(label_map, num_rows=num_labels, source=source)
    used = tuple(label - first_label for label in by_label.row_of_each)
    return LabelMap(by_label.categories, rows=Rows(used, num_labels - first_label))
