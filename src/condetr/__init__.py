"""condetr: detection transformers that converge fast."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

__all__ = [
    "ConditionalDetr",
    "Detections",
    "InputError",
    "LabelMap",
    "Predictor",
    "RunError",
    "TrainConfig",
    "__version__",
    "evaluate",
    "load",
    "recipe",
    "train",
]

# Loaded on first use, so that `import condetr` and `condetr --help` do not wait for torch.
if TYPE_CHECKING:
    from condetr.api import evaluate, train
    from condetr.detectors.conditional_detr import ConditionalDetr
    from condetr.engine.config import TrainConfig
    from condetr.errors import InputError, RunError
    from condetr.inference.predictor import Predictor
    from condetr.interop.loading import load
    from condetr.labels import LabelMap
    from condetr.recipes.registry import recipe
    from condetr.shapes import Detections
else:
    _DEFINED_IN = {
        "ConditionalDetr": "condetr.detectors.conditional_detr",
        "Detections": "condetr.shapes",
        "InputError": "condetr.errors",
        "LabelMap": "condetr.labels",
        "Predictor": "condetr.inference.predictor",
        "RunError": "condetr.errors",
        "TrainConfig": "condetr.engine.config",
        "evaluate": "condetr.api",
        "load": "condetr.interop.loading",
        "recipe": "condetr.recipes.registry",
        "train": "condetr.api",
    }

    def __getattr__(name: str) -> object:
        if name not in _DEFINED_IN:
            raise AttributeError(f"module 'condetr' has no attribute {name!r}")
        return getattr(importlib.import_module(_DEFINED_IN[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
