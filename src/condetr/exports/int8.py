"""A graph whose backbone and encoder compute in 8 bits: post-training quantisation by NNCF."""

import io
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np

from condetr.data.batch import Batch
from condetr.data.dataset import Split
from condetr.data.loader import eval_loader
from condetr.data.transforms import EvalTransformConfig
from condetr.errors import InputError, first_line
from condetr.exports.graph import Graph

MOST_IMAGES = 300
"""How many images the ranges of the activations are measured on."""
IN_FLOAT = ("decoder", "heads")
"""Parts that stay in float, for the sake of the boxes; they are the smaller half of the work."""


def some_images(split: Split, transform: EvalTransformConfig) -> Iterable[Batch]:
    """Return some images of a split, from all over it, one by one."""
    step = -(-len(split) // MOST_IMAGES)
    return eval_loader(replace(split, records=split.records[::step]), transform.build_eval())


def require_quantiser() -> None:
    """Raise InputError if NNCF is not installed."""
    try:
        import nncf  # noqa: F401 - it quantises
    except ImportError as error:
        raise InputError(f"8 bits need {error.name}: pip install openvino nncf") from None


def quantised(model: Any, graph: Graph, inputs: Iterable[list[np.ndarray]], *, name: str) -> Any:  # noqa: ANN401
    """Return OpenVINO's model of a graph in 8 bits, measured on what it takes for some images."""
    import nncf

    measured = list(inputs)
    if not measured:
        raise InputError("there are no training images to measure the ranges for 8 bits on; give data that have some")
    parts = graph.parts
    in_float = [
        step.get_friendly_name()
        for step in model.get_ordered_ops()
        if set(IN_FLOAT) & set(parts.get(step.get_friendly_name().partition("/")[0], "").split("."))
    ]
    with _silent():
        try:
            return nncf.quantize(
                model,
                nncf.Dataset(measured),
                subset_size=len(measured),
                model_type=nncf.ModelType.TRANSFORMER,
                ignored_scope=nncf.IgnoredScope(names=in_float, validate=False),
            )
        except Exception as error:  # it has no common class of errors
            raise InputError(f"{name}: NNCF cannot quantise this detector ({first_line(error)})") from None


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress NNCF's progress and messages."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
