import pytest
import torch

from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.errors import InputError
from condetr.explain.capture import capture_sampling
from tests.tiny import TINY


def images() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 3, 32, 48), torch.zeros(2, 32, 48, dtype=torch.bool)


@torch.no_grad()
def test_points_and_weights_of_every_query_head_level_and_point_are_kept() -> None:
    detector = DeformableDetrConfig(**TINY).build(num_classes=2).eval()
    with capture_sampling(detector, layers=[0, 1]) as seen:
        detector(*images())
    for layer in (0, 1):
        assert seen[layer].points_xy.shape == (2, 5, 2, 4, 4, 2)
        torch.testing.assert_close(seen[layer].weights.sum((-1, -2)), torch.ones(2, 5, 2))


@torch.no_grad()
def test_a_fresh_detector_looks_around_its_reference_points() -> None:
    detector = DeformableDetrConfig(**TINY).build(num_classes=2).eval()
    with capture_sampling(detector, layers=[0]) as seen:
        first = detector(*images()).sets[0].prediction
    reference_xy = first.boxes_cxcywh[:, :, None, None, :2]
    # The first head looks to the right, the second one to the left, a cell further with each point.
    middle = seen[0].points_xy.mean(2)
    torch.testing.assert_close(middle, reference_xy.expand_as(middle))


@torch.no_grad()
def test_capturing_ends_with_its_block() -> None:
    detector = DeformableDetrConfig(**TINY).build(num_classes=2).eval()
    with capture_sampling(detector, layers=[1]) as seen:
        detector(*images())
    before = seen[1]
    detector(*images())
    assert seen[1] is before


def test_a_layer_that_is_not_there_and_a_detector_that_looks_at_cells_are_refused() -> None:
    with (
        pytest.raises(InputError, match="there is no decoder layer 2; the layers of this model are 0 to 1"),
        capture_sampling(DeformableDetrConfig(**TINY).build(num_classes=2), layers=[2]),
    ):
        pass
    with (
        pytest.raises(InputError, match="Detr looks at every cell"),
        capture_sampling(DetrConfig(**TINY).build(num_classes=2), layers=[0]),
    ):
        pass
