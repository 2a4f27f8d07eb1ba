import pytest
import torch

from condetr.boxes import cxcywh_to_xyxy
from condetr.detectors.fcos import FcosConfig
from condetr.errors import InputError
from condetr.recipes.cost import cost_of
from tests.tiny import tiny


@pytest.mark.parametrize(("num_classes", "parameters"), [(80, 32_244_245), (91, 32_269_600)])
def test_it_has_the_parameters_of_torchvisions(num_classes: int, parameters: int) -> None:
    assert cost_of(FcosConfig(), num_classes=num_classes).parameters == parameters


def test_boxes_are_found_inside_their_image() -> None:
    detector = tiny(FcosConfig).build(num_classes=2).eval()
    is_padding = torch.zeros(1, 32, 48, dtype=torch.bool)
    is_padding[:, :, 40:] = True
    (found,) = detector.found(detector(torch.randn(1, 3, 32, 48), is_padding), limit=1000)
    corners = cxcywh_to_xyxy(found.boxes_cxcywh)
    assert len(corners) > 10
    assert corners.min() >= -1e-6
    assert corners.max() <= 1 + 1e-6


def test_a_width_that_cannot_be_normalised_is_refused() -> None:
    with pytest.raises(InputError, match="multiple of 32, got 100"):
        FcosConfig(dim=100).build(num_classes=2, pretrained=False)
