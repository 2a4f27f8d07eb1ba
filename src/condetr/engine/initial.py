"""Start a detector from the weights of another one."""

import torch
from torch import Tensor, nn

from condetr.detectors.conditional_detr import ConditionalDetr
from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel
from condetr.interop.loading import find_source, read
from condetr.labels import LabelMap

PER_QUERY = ("query_embedding.weight", "reference_points.points")
CLASS_HEAD = ("heads.class_head.weight", "heads.class_head.bias")


def initialise(detector: nn.Module, weights: str, *, label_map: LabelMap) -> tuple[str, ...]:
    """Copy every tensor that fits from whatever `condetr.load` takes; return the names of those drawn anew.

    The class head is taken over, row by row, if the weights know all classes of `label_map` by name, and otherwise
    stays as it was drawn. Raises InputError if less than half of the tensors fit.
    """
    expected = detector.state_dict()
    state = _with_all_groups(_state_for(label_map, read(find_source(weights))), detector=detector)
    fitting = {name: state[name] for name, old in expected.items() if name in state and state[name].shape == old.shape}
    if 2 * len(fitting) < len(expected):
        raise InputError(
            f"{weights} is another detector: {len(fitting)} of {len(expected)} tensors fit; name weights of the same "
            "architecture, or set detector.* as they were trained"
        )
    detector.load_state_dict(fitting, strict=False)
    return tuple(name for name in expected if name not in fitting)


def _state_for(label_map: LabelMap, model: LoadedModel) -> dict[str, Tensor]:
    """Return the model's state with a class head for other classes, or without one where it does not know them."""
    state: dict[str, Tensor] = model.detector.state_dict()
    rows = dict(zip(model.label_map.names, model.class_rows or range(model.num_class_rows), strict=True))
    if not set(label_map.names) <= set(rows):
        return {name: tensor for name, tensor in state.items() if name not in CLASS_HEAD}
    index = [rows[name] for name in label_map.names]
    if model.detector_config.scores == "softmax":
        index.append(model.num_class_rows)  # "no object"
    return state | {name: state[name][index] for name in CLASS_HEAD}


def _with_all_groups(state: dict[str, Tensor], *, detector: nn.Module) -> dict[str, Tensor]:
    """Return the state with further groups of queries as the detector drew them, where it has the first group's."""
    if not isinstance(detector, ConditionalDetr):
        return state
    drawn = detector.state_dict()
    return state | {
        name: torch.cat([state[name], drawn[name][detector.num_queries :]])
        for name in PER_QUERY
        if name in state and name in drawn and state[name].shape == drawn[name][: detector.num_queries].shape
    }
