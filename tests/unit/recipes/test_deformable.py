from dataclasses import replace

import pytest

from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.recipes.cost import cost_of
from condetr.recipes.deformable import ROWS, Row, train_config

# Billions, in the order of the rows: means over COCO images of about 800 x 1066, and the README's for the last two.
MULTIPLY_ADDS = (78, 128, 173, 173, 173)


@pytest.mark.parametrize(("row", "multiply_adds"), list(zip(ROWS, MULTIPLY_ADDS, strict=True)))
def test_costs_are_near_the_published_ones(row: Row, multiply_adds: int) -> None:
    detector = train_config(row).detector
    assert cost_of(detector).multiply_adds / 1e9 == pytest.approx(multiply_adds, rel=0.08)


def test_reference_points_and_sampling_offsets_learn_slowly() -> None:
    config = train_config(ROWS[0])
    assert isinstance(config.detector, DeformableDetrConfig)
    detector = replace(config.detector, encoder_layers=1, decoder_layers=1).build(num_classes=2, pretrained=False)
    groups = config.optimizer.build(detector).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([2e-4, 2e-5, 2e-5])
    assert len(groups[1]["params"]) == 2 + 2 + 2  # of the queries, the encoder and the decoder
