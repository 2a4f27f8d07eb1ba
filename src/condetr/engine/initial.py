"""Start a detector from the weights of another one."""

from pathlib import Path

from torch import nn

from condetr.backbones.weights import read_weights
from condetr.errors import InputError
from condetr.inference.model_folder import WEIGHTS
from condetr.inference.predictor import find_model_folder


def initialise(detector: nn.Module, source: str) -> tuple[str, ...]:
    """Copy every tensor of a run folder, model folder or weights file that fits; return the names of those that do not.

    A class head of other classes stays as it was drawn. Raises InputError if less than half of the tensors fit.
    """
    path = Path(source)
    weights = read_weights(path if path.is_file() else find_model_folder(path) / WEIGHTS)
    expected = detector.state_dict()
    fitting = {
        name: weights[name] for name, old in expected.items() if name in weights and weights[name].shape == old.shape
    }
    if 2 * len(fitting) < len(expected):
        raise InputError(
            f"{source} is another detector: {len(fitting)} of {len(expected)} tensors fit; name weights of the same "
            "architecture, or set detector.* as they were trained"
        )
    detector.load_state_dict(fitting, strict=False)
    return tuple(name for name in expected if name not in fitting)
