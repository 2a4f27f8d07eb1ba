import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from condetr.layers.deformable import DeformableAttention, SampledAttention, Sampling
from condetr.layers.levels import Levels

SIZES_HW = ((4, 5), (2, 3))
HEADS, POINTS, DIM = 2, 3, 8


def levels(*, images: int = 2, valid_ratio: float = 1.0) -> Levels:
    num_cells = sum(h * w for h, w in SIZES_HW)
    return Levels(
        features=torch.randn(images, num_cells, DIM),
        positions=torch.zeros(images, num_cells, DIM),
        is_padding=torch.zeros(images, num_cells, dtype=torch.bool),
        sizes_hw=SIZES_HW,
        sizes_wh=torch.tensor([[w, h] for h, w in SIZES_HW], dtype=torch.float32),
        valid_ratios=torch.full((images, len(SIZES_HW), 2), valid_ratio),
    )


def sampling(*, images: int = 2, queries: int = 3) -> Sampling:
    """Return random points, some of them outside of the maps."""
    shape = images, queries, HEADS, len(SIZES_HW), POINTS
    return Sampling(torch.rand(*shape, 2) * 1.4 - 0.2, torch.rand(shape))


def attention() -> DeformableAttention:
    """Return attention whose points and weights depend on the query."""
    module = DeformableAttention(DIM, num_heads=HEADS, num_levels=len(SIZES_HW), num_points=POINTS)
    for linear in (module.sampling_offsets, module.attention_weights):
        torch.nn.init.normal_(linear.weight)
    return module.requires_grad_(False)


def bilinear(grid: Tensor, x: float, y: float) -> Tensor:
    """Return the value at a point in cells, whose middles are at whole numbers; nothing is outside of the grid."""
    height, width, _ = grid.shape
    total = torch.zeros(grid.shape[-1])
    for column, row in product((math.floor(x), math.floor(x) + 1), (math.floor(y), math.floor(y) + 1)):
        if 0 <= column < width and 0 <= row < height:
            total += (1 - abs(x - column)) * (1 - abs(y - row)) * grid[row, column]
    return total


def slowly(value: Tensor, where: Sampling) -> Tensor:
    """Add up one point after the other."""
    images, queries = where.weights.shape[:2]
    attended = torch.zeros(images, queries, HEADS, DIM // HEADS)
    for image, query, head, level, point in product(*map(range, where.weights.shape)):
        start = sum(h * w for h, w in SIZES_HW[:level])
        height, width = SIZES_HW[level]
        cells = value[image, start : start + height * width].view(height, width, HEADS, -1)[:, :, head]
        x, y = where.points_xy[image, query, head, level, point].tolist()
        weight = where.weights[image, query, head, level, point]
        attended[image, query, head] += weight * bilinear(cells, x * width - 0.5, y * height - 0.5)
    return attended.flatten(2)


@given(seed=st.integers(0, 1000))
def test_it_is_the_sum_over_points_of_weighted_values_between_cells(seed: int) -> None:
    torch.manual_seed(seed)
    memory, where = levels(), sampling()
    attended = SampledAttention(HEADS)(memory.features, where, memory=memory)
    torch.testing.assert_close(attended, slowly(memory.features, where), atol=1e-5, rtol=1e-4)


def test_heads_that_change_places_change_the_places_of_their_channels() -> None:
    memory, where = levels(), sampling()
    swapped = Sampling(*(each.flip(2) for each in where))
    by_head = (*memory.features.shape[:2], HEADS, DIM // HEADS)
    value = memory.features.view(by_head).flip(2).reshape(memory.features.shape)
    attended, of_swapped = (
        SampledAttention(HEADS)(v, s, memory=memory) for v, s in ((memory.features, where), (value, swapped))
    )
    expected = attended.view(2, 3, HEADS, -1).flip(2).flatten(2)
    torch.testing.assert_close(of_swapped, expected)


@pytest.mark.parametrize("reference_dim", [2, 4])
def test_what_lies_in_padding_does_not_count(reference_dim: int) -> None:
    module, memory = attention(), levels()
    is_padding = torch.rand(memory.is_padding.shape) < 0.4
    query, reference = torch.randn(2, 3, DIM), torch.rand(2, 3, reference_dim)
    other = torch.where(is_padding[..., None], torch.randn_like(memory.features), memory.features)
    found = [
        module(query, reference=reference, memory=memory._replace(features=features, is_padding=is_padding))
        for features in (memory.features, other)
    ]
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_the_weights_of_a_head_sum_to_1() -> None:
    where = attention().sampling(torch.randn(2, 3, DIM), reference=torch.rand(2, 3, 2), memory=levels())
    torch.testing.assert_close(where.weights.sum((-1, -2)), torch.ones(2, 3, HEADS))


def test_references_are_relative_to_what_is_not_padding() -> None:
    module, query, reference = attention(), torch.randn(2, 3, DIM), torch.rand(2, 3, 2)
    full, half = (
        module.sampling(query, reference=reference, memory=levels(valid_ratio=ratio)).points_xy for ratio in (1.0, 0.5)
    )
    torch.testing.assert_close(full - half, (reference / 2)[:, :, None, None, None].expand_as(full))


def test_offsets_from_a_box_grow_with_the_box() -> None:
    module, query = attention(), torch.randn(2, 3, DIM)
    small = torch.rand(2, 3, 4) / 2
    large = small * torch.tensor([1.0, 1.0, 2.0, 2.0])
    near, far = (
        module.sampling(query, reference=box, memory=levels()).points_xy - box[:, :, None, None, None, :2]
        for box in (small, large)
    )
    torch.testing.assert_close(far, 2 * near)


def test_each_head_begins_with_points_in_a_row_into_a_direction_of_its_own() -> None:
    module = DeformableAttention(16, num_heads=8, num_levels=2, num_points=4)
    offsets = module.sampling_offsets.bias.detach().view(8, 2, 4, 2)
    torch.testing.assert_close(offsets[0, 0], torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(offsets[1, 1], torch.tensor([[1.0, 1], [2, 2], [3, 3], [4, 4]]), atol=1e-5, rtol=0)
    assert not module.sampling_offsets.weight.any()
    assert not module.attention_weights.weight.any()


def test_a_query_looks_a_cell_further_for_each_unit_of_offset() -> None:
    module, memory = DeformableAttention(DIM, num_heads=4, num_levels=2, num_points=2), levels(images=1)
    where = module.sampling(torch.zeros(1, 1, DIM), reference=torch.full((1, 1, 2), 0.5), memory=memory)
    to_the_right = where.points_xy[0, 0, 0, :, :, 0]  # of head 0
    torch.testing.assert_close(to_the_right, 0.5 + torch.tensor([[1 / 5, 2 / 5], [1 / 3, 2 / 3]]))
