import pytest
import torch

from condetr.detectors.points import Points, assigned, boxes_around, true_centreness

POINTS = Points(torch.tensor([[4.0, 4.0], [12.0, 4.0], [8.0, 8.0]]), torch.tensor([8.0, 8.0, 16.0]), counts=(2, 1))


def test_a_point_learns_the_smallest_object_around_it() -> None:
    boxes_xyxy = torch.tensor([[0.0, 0.0, 30.0, 20.0], [1.0, 1.0, 10.0, 10.0]])
    assert assigned(POINTS, boxes_xyxy, centre_radius=1.5).tolist() == [1, 0, -1]


def test_large_objects_are_learned_on_the_coarsest_level() -> None:
    boxes_xyxy = torch.tensor([[-200.0, -200.0, 216.0, 216.0]])
    assert assigned(POINTS, boxes_xyxy, centre_radius=1.5).tolist() == [-1, -1, 0]


def test_without_objects_nothing_is_learned() -> None:
    assert assigned(POINTS, torch.zeros(0, 4), centre_radius=1.5).tolist() == [-1, -1, -1]


def test_distances_lead_from_the_point_to_the_sides() -> None:
    boxes_xyxy = boxes_around(POINTS.xy, strides=POINTS.strides, distances=torch.tensor([[0.5, 0.25, 1.0, 2.0]] * 3))
    assert boxes_xyxy.tolist() == [[0, 2, 12, 20], [8, 2, 20, 20], [0, 4, 24, 40]]


def test_the_middle_of_a_box_is_its_centre() -> None:
    xy, boxes_xyxy = torch.tensor([[5.0, 5.0], [2.0, 5.0]]), torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 2)
    assert true_centreness(xy, boxes_xyxy).tolist() == [1.0, 0.5]


@pytest.mark.parametrize(("with_limits", "learned"), [(False, [-1, -1, -1]), (True, [0, -1, 0])])
def test_a_side_at_the_limit_is_learned_on_both_levels_or_on_none(with_limits: bool, learned: list[int]) -> None:  # noqa: FBT001
    boxes_xyxy = torch.tensor([[-4.0, -4.0, 68.0, 9.0]])
    points = POINTS._replace(xy=torch.tensor([[4.0, 4.0], [70.0, 4.0], [4.0, 4.0]]))
    assert assigned(points, boxes_xyxy, centre_radius=8.0, with_limits=with_limits).tolist() == learned
