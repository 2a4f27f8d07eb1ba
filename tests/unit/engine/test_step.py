from dataclasses import replace

import pytest

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.engine.step import has_idle_parameters
from tests.tiny import TINY

CONFIG = ConditionalDetrConfig(**TINY)


@pytest.mark.parametrize(
    "config", [CONFIG, DetrConfig(**TINY), replace(CONFIG, query_groups=2, denoising_groups=2)], ids=str
)
def test_every_parameter_of_a_detector_learns(config: ConditionalDetrConfig | DetrConfig) -> None:
    assert not has_idle_parameters(config)


def test_reference_points_that_nothing_reads_are_seen() -> None:
    assert has_idle_parameters(replace(CONFIG, spatial_query="C", offset_regression=False))
