import pytest
import torch
from torchvision.ops import box_iou

from condetr.boxes import cxcywh_to_xyxy, giou, iou, xyxy_to_cxcywh


def test_giou_of_the_worked_example() -> None:
    a = cxcywh_to_xyxy(torch.tensor([0.5, 0.5, 0.4, 0.2]))
    b = cxcywh_to_xyxy(torch.tensor([0.6, 0.45, 0.2, 0.3]))
    assert giou(a, b).item() == pytest.approx(0.04 / 0.10 - (0.12 - 0.10) / 0.12, abs=1e-6)


def test_giou_compares_all_pairs_by_broadcasting() -> None:
    a, b = torch.rand(3, 4).sort().values, torch.rand(5, 4).sort().values
    assert giou(a[:, None], b).shape == (3, 5)


def test_giou_of_points_is_finite_and_so_is_its_gradient() -> None:
    points = torch.zeros(2, 4, requires_grad=True)
    overlap = giou(points, points)
    overlap.sum().backward()
    assert points.grad is not None
    torch.testing.assert_close(overlap, torch.full((2,), -1.0))
    assert points.grad.isfinite().all()


def test_formats_are_inverse() -> None:
    boxes = torch.rand(2, 3, 4)
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes)


def test_iou_is_that_of_torchvision() -> None:
    a, b = (cxcywh_to_xyxy(torch.rand(20, 4)) for _ in range(2))
    torch.testing.assert_close(iou(a[:, None], b), box_iou(a, b))
    assert iou(torch.zeros(4), torch.zeros(4)) == 0
