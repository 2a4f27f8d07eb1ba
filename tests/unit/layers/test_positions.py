import math

import torch

from condetr.layers.positions import point_embedding, position_map


def test_position_map_of_the_worked_example() -> None:
    positions = position_map(torch.zeros(1, 2, 3, dtype=torch.bool), dim=256)
    first = positions[0, 0]
    torch.testing.assert_close(first[128:132], torch.tensor([0.8660, -0.5, 0.9707, -0.2405]), atol=1e-4, rtol=0)
    torch.testing.assert_close(first[0:4], torch.tensor([1.3e-6, -1, 0.40875, -0.91265]), atol=1e-4, rtol=0)


def test_point_embedding_of_the_worked_example() -> None:
    embedded = point_embedding(torch.tensor([0.25, 0.5]), dim=256)
    torch.testing.assert_close(embedded[0:4], torch.tensor([0, -1, 0.40875, -0.91265]), atol=1e-4, rtol=0)
    torch.testing.assert_close(embedded[64:66], torch.tensor([0.0314, 0.9995]), atol=1e-4, rtol=0)
    torch.testing.assert_close(embedded[128:130], torch.tensor([1.0, 0.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(embedded[192:194], torch.tensor([0.0157, 0.9999]), atol=1e-4, rtol=0)
    torch.testing.assert_close(embedded.norm(), torch.tensor(math.sqrt(128)))


def test_padding_does_not_change_the_positions_of_valid_cells() -> None:
    is_padding = torch.ones(1, 4, 5, dtype=torch.bool)
    is_padding[:, :2, :3] = False
    padded = position_map(is_padding, dim=8).view(1, 4, 5, 8)[:, :2, :3]
    alone = position_map(torch.zeros(1, 2, 3, dtype=torch.bool), dim=8).view(1, 2, 3, 8)
    torch.testing.assert_close(padded, alone)


def test_an_image_of_padding_only_has_finite_positions() -> None:
    assert position_map(torch.ones(1, 2, 2, dtype=torch.bool), dim=8).isfinite().all()
