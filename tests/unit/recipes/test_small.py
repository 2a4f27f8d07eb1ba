from collections.abc import Callable
from dataclasses import replace

import pytest

from condetr.engine.config import TrainConfig
from condetr.recipes import small

TRANSFORMER = ("backbone", "num_queries", "dim", "num_heads", "feedforward_dim", "encoder_layers", "decoder_layers")


@pytest.mark.parametrize(
    "make",
    [
        small.detr_mobilenet,
        small.deformable_detr_mobilenet,
        small.fcos_mobilenet,
        small.faster_rcnn_mobilenet,
        small.tsp_fcos_mobilenet,
        small.tsp_rcnn_mobilenet,
    ],
)
def test_a_small_recipe_differs_from_conditional_detrs_in_the_detector_alone(make: Callable[[], TrainConfig]) -> None:
    ours, theirs = make(), small.conditional_detr_mobilenet()
    assert ours.detector.kind != theirs.detector.kind
    assert replace(ours, detector=theirs.detector) == theirs


@pytest.mark.parametrize("make", [small.detr_mobilenet, small.deformable_detr_mobilenet])
def test_the_small_transformers_share_their_sizes(make: Callable[[], TrainConfig]) -> None:
    ours, theirs = make().detector, small.conditional_detr_mobilenet().detector
    assert [getattr(ours, name) for name in TRANSFORMER] == [getattr(theirs, name) for name in TRANSFORMER]
