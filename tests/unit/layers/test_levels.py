import math

import torch

from condetr.backbones.resnet import SmallResNetConfig
from condetr.layers.levels import FeatureLevels, Levels, cell_centres

BACKBONE = SmallResNetConfig(widths=(4, 6, 8), blocks=(1, 1))


def feature_levels(*, num_levels: int = 4, from_backbone: int = 2) -> FeatureLevels:
    return FeatureLevels(BACKBONE.build(pretrained=False, levels=from_backbone), dim=8, num_levels=num_levels).eval()


def padded(*, height: int = 64, width: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image of which the lower half and the right third are padding."""
    is_padding = torch.zeros(1, height, width, dtype=torch.bool)
    is_padding[:, height // 2 :] = True
    is_padding[:, :, 2 * width // 3 :] = True
    return torch.randn(1, 3, height, width) * ~is_padding[:, None], is_padding


@torch.no_grad()
def levels_of(features: FeatureLevels) -> Levels:
    levels: Levels = features(*padded())
    return levels


def test_every_level_halves_the_one_before_it() -> None:
    features = feature_levels()
    levels = levels_of(features)
    assert features.strides == (4, 8, 16, 32)
    assert levels.sizes_hw == ((16, 24), (8, 12), (4, 6), (2, 3))
    assert levels.sizes_wh.tolist() == [[24, 16], [12, 8], [6, 4], [3, 2]]
    assert levels.features.shape == levels.positions.shape == (1, sum(h * w for h, w in levels.sizes_hw), 8)


def test_one_level_is_the_deepest() -> None:
    features = feature_levels(num_levels=1, from_backbone=1)
    assert features.strides == (8,)
    assert levels_of(features).sizes_hw == ((8, 12),)


def test_valid_ratios_say_what_is_not_padding() -> None:
    torch.testing.assert_close(levels_of(feature_levels()).valid_ratios[0], torch.tensor([2 / 3, 1 / 2]).expand(4, 2))


def test_the_centres_of_valid_cells_spread_evenly_over_the_image() -> None:
    levels = levels_of(feature_levels())
    centres, is_valid = cell_centres(levels)[0], ~levels.is_padding[0]
    finest = centres[is_valid][: 16 * 8]
    assert (centres[is_valid] < 1).all()
    assert (centres[~is_valid].amax(-1) > 1).all()
    torch.testing.assert_close(finest[:16, 0], (torch.arange(16) + 0.5) / 16)
    torch.testing.assert_close(finest[::16, 1], (torch.arange(8) + 0.5) / 8)


def test_the_middle_of_the_image_has_the_same_position_in_every_level_but_for_the_levels_own() -> None:
    features = feature_levels(num_levels=2)
    is_padding = torch.zeros(1, 12, 12, dtype=torch.bool)
    with torch.no_grad():
        levels = features(torch.zeros(1, 3, 12, 12), is_padding)  # maps of 3 x 3 and 2 x 2 cells
    middle = levels.positions[0, 4] - features.level_embedding[0]
    # The block of y comes first; sine and cosine of pi in its lowest channels.
    torch.testing.assert_close(middle[:2], torch.tensor([math.sin(math.pi), math.cos(math.pi)]), atol=1e-5, rtol=0)


def test_a_backbone_learns_through_every_level() -> None:
    features = feature_levels()
    features(*padded()).features.sum().backward()
    assert all(parameter.grad is not None for name, parameter in features.named_parameters() if "level" not in name)
