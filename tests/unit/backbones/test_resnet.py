from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from condetr.backbones.resnet import ResNetConfig, SmallResNetConfig
from condetr.backbones.weights import load_weights
from condetr.errors import InputError


@pytest.mark.parametrize(("dilation", "cells"), [(False, 2), (True, 4)])
@pytest.mark.parametrize("depth", [18, 50])
def test_dilation_doubles_the_resolution(depth: int, dilation: bool, cells: int) -> None:  # noqa: FBT001
    backbone = ResNetConfig(depth=depth, dilation=dilation).build(pretrained=False).eval()  # type: ignore[arg-type]
    (features,) = backbone(torch.randn(1, 3, 64, 64))
    assert features.shape == (1, *backbone.channels, cells, cells)
    assert backbone.strides == (64 // cells,)


def test_dilation_is_that_of_torchvision_but_for_the_first_block() -> None:
    backbone = ResNetConfig(dilation=True).build(pretrained=False)
    found = [backbone.body.get_submodule(f"layer4.{block}.conv2").dilation for block in range(3)]
    assert found == [(1, 1), (2, 2), (2, 2)]


def test_strides_can_be_on_the_first_1x1_convolutions() -> None:
    moved = ResNetConfig(stride_in_1x1=True).build(pretrained=False, levels=4).eval()
    plain = ResNetConfig().build(pretrained=False, levels=4).eval()
    for network, strides in ((moved, [(2, 2), (1, 1)]), (plain, [(1, 1), (2, 2)])):
        for stage in (2, 3, 4):
            block = network.body.get_submodule(f"layer{stage}.0")
            assert [block.conv1.stride, block.conv2.stride] == strides
        assert network.body.get_submodule("layer1.0.conv1").stride == (1, 1)
    plain.load_state_dict(moved.state_dict())
    images = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(moved(images), plain(images), strict=True):
        assert ours.shape == theirs.shape
        assert torch.equal(ours, theirs) == (ours.shape[-1] == 16)  # only layer1's map is the same


def test_basic_blocks_have_no_1x1_convolution_for_the_stride() -> None:
    with pytest.raises(InputError, match="of depth 50 or 101, got 18"):
        ResNetConfig(depth=18, stride_in_1x1=True).build(pretrained=False)


def test_stem_and_first_stage_are_frozen() -> None:
    backbone = ResNetConfig().build(pretrained=False)
    frozen = sum(p.numel() for p in backbone.parameters() if not p.requires_grad)
    assert frozen == 222_400


def test_small_resnet_keeps_resolution_with_dilation() -> None:
    strides = [SmallResNetConfig(dilation=d).build(pretrained=False).strides for d in (False, True)]
    assert strides == [(16,), (8,)]


def test_local_weights_are_loaded_and_a_classifier_left_out(tmp_path: Path) -> None:
    source = ResNetConfig(depth=18).build(pretrained=False)
    weights = {**source.body.state_dict(), "fc.weight": torch.zeros(1000, 512)}
    save_file(weights, tmp_path / "resnet.safetensors")
    config = ResNetConfig(depth=18, weights=str(tmp_path / "resnet.safetensors"))
    torch.testing.assert_close(config.build(pretrained=True).state_dict(), source.state_dict())


def test_weights_saved_inside_a_wrapper_are_loaded(tmp_path: Path) -> None:
    saved = SmallResNetConfig(widths=(4, 8), blocks=(1,)).build(pretrained=False).state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in saved.items()}, tmp_path / "weights.pth")
    config = SmallResNetConfig(widths=(4, 8), blocks=(1,), weights=str(tmp_path / "weights.pth"))

    torch.testing.assert_close(dict(config.build(pretrained=True).state_dict()), dict(saved))


def test_weights_without_names_are_refused(tmp_path: Path) -> None:
    torch.save({0: torch.zeros(1)}, tmp_path / "weights.pth")

    with pytest.raises(InputError, match="holds no state dict"):
        ResNetConfig(depth=18, weights=str(tmp_path / "weights.pth")).build(pretrained=True)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    backbone = ResNetConfig(depth=18).build(pretrained=False)
    with pytest.raises(InputError, match="of 100 tensors are missing"):
        load_weights(backbone.body, {"x": torch.zeros(1)}, source="x")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    bad = tmp_path / "weights.pth"
    bad.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(InputError, match="cannot read the weights file"):
        ResNetConfig(depth=18, weights=str(bad)).build(pretrained=True)
    assert not (tmp_path / "ran").exists()


def test_a_small_resnet_starts_from_a_file_of_weights(tmp_path: Path) -> None:
    config = SmallResNetConfig(widths=(4, 8, 8), blocks=(1, 1))
    saved = config.build(pretrained=False).state_dict()
    save_file(saved, tmp_path / "weights.safetensors")
    from_file = replace(config, weights=str(tmp_path / "weights.safetensors"), dilation=True)

    torch.testing.assert_close(dict(from_file.build(pretrained=True).state_dict()), dict(saved))


@pytest.mark.parametrize("config", [ResNetConfig(depth=18), SmallResNetConfig(), ResNetConfig(dilation=True)])
def test_several_levels_are_the_last_maps_from_fine_to_coarse(config: ResNetConfig | SmallResNetConfig) -> None:
    one, two = (config.build(pretrained=False, levels=levels).eval() for levels in (1, 2))
    two.load_state_dict(one.state_dict())
    images = torch.randn(1, 3, 64, 64)
    fine, coarse = two(images)
    torch.testing.assert_close(coarse, one(images)[0])
    for features, channels, stride in zip((fine, coarse), two.channels, two.strides, strict=True):
        assert features.shape == (1, channels, 64 // stride, 64 // stride)
