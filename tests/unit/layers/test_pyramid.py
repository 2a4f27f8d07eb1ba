import pytest
import torch

from condetr.backbones.resnet import SmallResNetConfig
from condetr.layers.pyramid import LevelNorm, Pyramid


def pyramid() -> Pyramid:
    torch.manual_seed(0)
    backbone = SmallResNetConfig(widths=(4, 6, 8), blocks=(1, 1)).build(pretrained=False, levels=2)
    return Pyramid(backbone, dim=8, top="normed_convolutions")


def test_two_normed_maps_follow_the_last_one() -> None:
    ours = pyramid().eval()
    maps = ours(torch.randn(2, 3, 60, 64))
    assert [each.shape[-2:] for each in maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert ours.strides == (4, 8, 16, 32)
    top = ours.fpn.extra_blocks
    p6 = top.p6.bn(top.p6.conv(maps[1]))
    torch.testing.assert_close(maps[2], p6)
    torch.testing.assert_close(maps[3], top.p7.bn(top.p7.conv(p6.clamp(min=0))))
    assert (p6 < 0).any()


def test_the_coarse_maps_are_normalised_by_the_batch_in_training_alone() -> None:
    ours = pyramid().train()
    maps = ours(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(maps[2].mean((0, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)
    assert ours.fpn.extra_blocks.p6.bn.num_batches_tracked == 1


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 1, 1)])
def test_a_single_cell_is_normalised_by_what_is_known(shape: tuple[int, ...]) -> None:
    norm, x = LevelNorm(3).train(), torch.randn(shape)
    found = norm(x)
    if shape[0] == 1:
        torch.testing.assert_close(found, x / (1 + norm.eps) ** 0.5)
        assert norm.num_batches_tracked == 0
    else:
        torch.testing.assert_close(found.mean(0), torch.zeros(3, 1, 1), atol=1e-5, rtol=0)
