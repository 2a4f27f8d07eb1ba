import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import generalized_box_iou

from condetr.boxes import cxcywh_to_xyxy, giou

Fraction = st.floats(0.01, 1)
Boxes = st.lists(st.tuples(Fraction, Fraction, Fraction, Fraction), min_size=1, max_size=4).map(
    lambda rows: cxcywh_to_xyxy(torch.tensor(rows, dtype=torch.float64))
)


@given(Boxes, Boxes)
def test_giou_agrees_with_torchvision(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(giou(a[:, None], b), generalized_box_iou(a, b), atol=1e-9, rtol=0)


@given(Boxes, Boxes, st.floats(0.1, 10), st.floats(-5, 5))
def test_giou_does_not_change_with_scale_and_place(a: Tensor, b: Tensor, scale: float, shift: float) -> None:
    moved = giou(a[:, None] * scale + shift, b * scale + shift)
    torch.testing.assert_close(moved, giou(a[:, None], b), atol=1e-9, rtol=1e-7)


@given(Boxes, Boxes)
def test_giou_is_symmetric_and_bounded(a: Tensor, b: Tensor) -> None:
    overlap = giou(a[:, None], b)
    torch.testing.assert_close(overlap, giou(b[:, None], a).T)
    assert ((overlap >= -1) & (overlap <= 1 + 1e-12)).all()
