import pytest
import torch

from condetr.boxes import cxcywh_to_xyxy
from condetr.detectors.fcos import FcosConfig, Points, assigned, boxes_around, true_centreness
from condetr.errors import InputError
from condetr.recipes.cost import cost_of
from tests.tiny import tiny

POINTS = Points(torch.tensor([[4.0, 4.0], [12.0, 4.0], [8.0, 8.0]]), torch.tensor([8.0, 8.0, 16.0]), counts=(2, 1))


@pytest.mark.parametrize(("num_classes", "parameters"), [(80, 32_244_245), (91, 32_269_600)])
def test_it_has_the_parameters_of_torchvisions(num_classes: int, parameters: int) -> None:
    assert cost_of(FcosConfig(), num_classes=num_classes).parameters == parameters


def test_a_point_learns_the_smallest_object_around_it() -> None:
    boxes_xyxy = torch.tensor([[0.0, 0.0, 30.0, 20.0], [1.0, 1.0, 10.0, 10.0]])
    assert assigned(POINTS, boxes_xyxy, centre_radius=1.5).tolist() == [1, 0, -1]


def test_large_objects_are_learned_on_the_coarsest_level() -> None:
    boxes_xyxy = torch.tensor([[-200.0, -200.0, 216.0, 216.0]])
    assert assigned(POINTS, boxes_xyxy, centre_radius=1.5).tolist() == [-1, -1, 0]


def test_without_objects_nothing_is_learned() -> None:
    assert assigned(POINTS, torch.zeros(0, 4), centre_radius=1.5).tolist() == [-1, -1, -1]


def test_distances_lead_from_the_point_to_the_sides() -> None:
    boxes_xyxy = boxes_around(POINTS, torch.tensor([[[0.5, 0.25, 1.0, 2.0]] * 3]))
    assert boxes_xyxy[0].tolist() == [[0, 2, 12, 20], [8, 2, 20, 20], [0, 4, 24, 40]]


def test_the_middle_of_a_box_is_its_centre() -> None:
    xy, boxes_xyxy = torch.tensor([[5.0, 5.0], [2.0, 5.0]]), torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 2)
    assert true_centreness(xy, boxes_xyxy).tolist() == [1.0, 0.5]


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
