"""Start a detector from the weights of another one."""

from typing import cast

import torch
from torch import Tensor

from condetr.detectors.detector import Detector
from condetr.detectors.registry import DetectorConfig
from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel, blank_state
from condetr.labels import LabelMap

State = dict[str, Tensor]


def initialise(
    detector: Detector, model: LoadedModel, *, config: DetectorConfig, label_map: LabelMap, source: str
) -> tuple[str, ...]:
    """Copy every tensor that fits from another model; return the names of those that stay re-initialised.

    `config` are the settings that the detector was built from, `source` names the model in errors. Rows that belong to
    classes are copied, class by class, if the model knows all classes of `label_map` by name; otherwise they stay as
    they were initialised, except a row that stands for any object. Raises InputError if less than half of the tensors
    fit.
    """
    expected = detector.state_dict()
    one_class_more = blank_state(model.detector_config, num_class_rows=model.label_map.num_rows + 1)
    plain = blank_state(cast(DetectorConfig, config.for_inference()), num_class_rows=len(label_map))
    state = _for_classes(label_map, model, one_class_more=one_class_more)
    for name in set(detector.any_object) & set(model.detector.any_object):
        first = model.detector.state_dict()[name][:1]
        state[name] = torch.cat([first, expected[name][1:]])
    state = {name: _lengthened(tensor, expected.get(name), plain.get(name)) for name, tensor in state.items()}
    fitting = {name: state[name] for name, old in expected.items() if name in state and state[name].shape == old.shape}
    if 2 * len(fitting) < len(expected):
        raise InputError(
            f"{source} is another detector: {len(fitting)} of {len(expected)} tensors fit; give weights of the same "
            "architecture, or set detector.* as in their training"
        )
    detector.load_state_dict(fitting, strict=False)
    return tuple(name for name in expected if name not in fitting)


def _for_classes(label_map: LabelMap, model: LoadedModel, *, one_class_more: State) -> State:
    """Return the model's state for other classes, or without the rows of classes if it does not know them all."""
    state: State = model.detector.state_dict()
    num_rows = model.label_map.num_rows
    per_class = {name: len(one_class_more[name]) - len(state[name]) for name in state if state[name].dim()}
    per_class = {name: count for name, count in per_class.items() if count}
    rows = dict(zip(model.label_map.names, model.label_map.row_of_each, strict=True))
    if not set(label_map.names) <= set(rows):
        return {name: tensor for name, tensor in state.items() if name not in per_class}
    wanted = [rows[name] for name in label_map.names]
    return state | {
        name: state[name][_rows(wanted, per_class=count, num_classes=num_rows, total=len(state[name]))]
        for name, count in per_class.items()
    }


def _rows(wanted: list[int], *, per_class: int, num_classes: int, total: int) -> list[int]:
    """Return the rows of some classes, and the rows after all classes, which belong to none."""
    of_classes = [row * per_class + place for row in wanted for place in range(per_class)]
    return [*of_classes, *range(num_classes * per_class, total)]


def _lengthened(tensor: Tensor, expected: Tensor | None, plain: Tensor | None) -> Tensor:
    """Return a tensor with its training-only rows (further groups of queries) as they were initialised."""
    if expected is None or plain is None or tensor.shape != plain.shape or expected.shape == plain.shape:
        return tensor
    return torch.cat([tensor, expected[len(tensor) :]])
