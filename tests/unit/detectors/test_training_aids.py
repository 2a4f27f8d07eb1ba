from dataclasses import replace
from typing import get_args

import pytest
import torch

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detector import without_training_aids
from condetr.detectors.detr import DetrConfig
from condetr.layers.queries import Reference
from tests.tiny import TINY
from tests.unit.detectors.test_conditional_detr import CONFIG, batch


@pytest.mark.parametrize("reference", get_args(Reference))
def test_what_is_kept_detects_the_same(reference: Reference) -> None:
    config = replace(CONFIG, query_groups=3, denoising_groups=2, reference=reference)
    detector = config.build(num_classes=3).eval()
    kept, kept_config = without_training_aids(detector, config=config, num_classes=3)
    assert kept_config == replace(config, query_groups=1, denoising_groups=0)
    assert set(kept.state_dict()) == set(kept_config.build(num_classes=3).state_dict())
    images = batch()
    torch.testing.assert_close(kept(*images).final, detector(*images).final, rtol=0, atol=0)


@pytest.mark.parametrize("config", [CONFIG, DetrConfig(**TINY)])
def test_a_detector_without_aids_is_kept_itself(config: ConditionalDetrConfig | DetrConfig) -> None:
    detector = config.build(num_classes=3)
    assert without_training_aids(detector, config=config, num_classes=3) == (detector, config)
