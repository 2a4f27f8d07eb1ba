import pytest

from condetr.backbones.resnet import ResNetConfig, SmallResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.recipes.cost import cost_of

# Table 1 of the paper: million parameters, and billion multiply-adds as a mean over COCO images.
TABLE_1 = [
    (DetrConfig(), 41, 86),
    (ConditionalDetrConfig(), 44, 90),
    (ConditionalDetrConfig(backbone=ResNetConfig(dilation=True)), 44, 195),
    (ConditionalDetrConfig(backbone=ResNetConfig(depth=101)), 63, 156),
]


@pytest.mark.parametrize(("config", "parameters", "multiply_adds"), TABLE_1)
def test_costs_are_near_those_of_the_paper(
    config: ConditionalDetrConfig | DetrConfig, parameters: int, multiply_adds: int
) -> None:
    cost = cost_of(config)
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=1)
    assert cost.multiply_adds / 1e9 == pytest.approx(multiply_adds, rel=0.08)


def test_parameters_of_conditional_detr_are_those_of_the_official_code() -> None:
    assert cost_of(ConditionalDetrConfig()).parameters == 43_418_401


def test_multiply_adds_of_a_backbone_follow_the_image_area() -> None:
    config = ConditionalDetrConfig(
        backbone=SmallResNetConfig(),
        dim=8,
        num_heads=2,
        feedforward_dim=8,
        encoder_layers=1,
        decoder_layers=1,
        num_queries=2,
    )
    small = cost_of(config, size_hw=(64, 64)).multiply_adds
    assert cost_of(config, size_hw=(128, 128)).multiply_adds == pytest.approx(4 * small, rel=0.05)


def test_training_aids_cost_nothing_in_the_end() -> None:
    aided = ConditionalDetrConfig(query_groups=11, denoising_groups=5)
    assert cost_of(aided) == cost_of(ConditionalDetrConfig())
