from typing import Any

import pytest

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.tsp_fcos import TspFcosConfig
from condetr.detectors.tsp_rcnn import TspRcnnConfig
from condetr.recipes.cost import cost_of
from condetr.recipes.registry import RECIPES
from condetr.recipes.table2 import ROWS

# Parameters of the authors' code with 80 classes, and billion multiply-adds of an image of 800 x 1066.
COSTS = [
    (TspFcosConfig, 50, 51_458_922, 186.0),
    (TspFcosConfig, 101, 70_398_826, 250.4),
    (TspRcnnConfig, 50, 56_695_678, 180.8),
    (TspRcnnConfig, 101, 75_635_582, 245.2),
]


@pytest.mark.parametrize(("kind", "depth", "parameters", "multiply_adds"), COSTS)
def test_costs_are_those_of_the_authors_code(kind: Any, depth: Any, parameters: int, multiply_adds: float) -> None:  # noqa: ANN401
    cost = cost_of(kind(backbone=ResNetConfig(depth=depth, stride_in_1x1=True)), num_classes=80)
    assert cost.parameters == parameters
    assert cost.multiply_adds / 1e9 == pytest.approx(multiply_adds, rel=0.01)


def test_rows_are_recipes_with_the_ap_of_the_paper() -> None:
    found = {row.name: RECIPES[row.name].paper_ap for row in ROWS}
    assert len(found) == len(ROWS) == 10
    assert found["faster_rcnn_r101_108e"] == pytest.approx(0.44)
    assert found["tsp_fcos_r50_36e"] == pytest.approx(0.431)
    assert found["tsp_rcnn_r101_96e"] == pytest.approx(0.465)


@pytest.mark.parametrize(
    ("name", "lr", "drops"), [("tsp_fcos_r50_36e", 0.01, [24, 32]), ("tsp_rcnn_r101_96e", 0.02, [64, 85])]
)
def test_the_encoder_is_adamws_and_clipped_and_all_else_is_sgds(name: str, lr: float, drops: list[int]) -> None:
    config = RECIPES[name].build()
    detector = config.detector.build(num_classes=80, pretrained=False)
    optimizer = config.optimizer.build(detector)
    (adamw, limit), (sgd, none) = config.optimizer.limits(optimizer)
    weights, norms = (sum(p.numel() for p in group["params"]) for group in adamw.param_groups)
    assert (weights, norms) == (18_902_016, 13_312)
    assert [group["weight_decay"] for group in (*adamw.param_groups, *sgd.param_groups)] == [1e-4, 0.0, 1e-4, 0.0]
    assert {group["lr"] for group in sgd.param_groups} == {lr}
    assert (limit, none) == (0.01, float("inf"))
    schedule = config.schedule.build(steps_per_epoch=1000, steps=1000 * config.epochs)
    assert schedule(0) == pytest.approx(1e-3)
    assert [
        epoch for epoch in range(1, config.epochs) if schedule(1000 * epoch) < 0.9 * schedule(1000 * epoch - 1)
    ] == drops
