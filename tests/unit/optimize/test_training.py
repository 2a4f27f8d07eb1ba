import copy

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from condetr.backbones.resnet import ResNet, ResNetConfig, SmallResNetConfig
from condetr.backbones.timm import TimmConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.layers.attention import DotProductAttention
from condetr.optimize.depthwise import DilatedDepthwiseConvolution
from condetr.optimize.norms import merge_frozen_norms
from condetr.optimize.training import speed_up_training


def build() -> tuple[ResNet, ResNet]:
    """Return a backbone with drawn statistics as it is, and a copy with merged norms."""
    torch.manual_seed(0)
    plain = ResNetConfig(depth=18).build(pretrained=False)
    for norm in plain.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 1.5)
            nn.init.normal_(norm.get_buffer("running_mean"), std=0.2)
    merged = copy.deepcopy(plain)
    merge_frozen_norms(merged)
    return plain, merged


def test_results_gradients_and_names_stay_what_they_were() -> None:
    plain, merged = build()
    images = torch.randn(2, 3, 64, 64)

    results = [backbone(images)[-1] for backbone in (plain, merged)]
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-4)
    for result in results:
        result.square().mean().backward()

    torch.testing.assert_close(dict(merged.state_dict()), dict(plain.state_dict()))
    for (name, theirs), (same_name, ours) in zip(plain.named_parameters(), merged.named_parameters(), strict=True):
        assert name == same_name
        assert (theirs.grad is None) == (ours.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_a_copy_reads_its_own_statistics() -> None:
    _, merged = build()
    images = torch.randn(1, 3, 32, 32)
    (before,) = merged(images)

    other = copy.deepcopy(merged)
    for buffer in other.buffers():
        buffer.mul_(2)

    torch.testing.assert_close(merged(images)[0], before)
    assert not torch.allclose(other(images)[0], before)


def test_weights_can_be_loaded_into_merged_backbones() -> None:
    plain, merged = build()
    other = ResNetConfig(depth=18).build(pretrained=False)
    merge_frozen_norms(other)

    other.load_state_dict(plain.state_dict())

    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(other(images), merged(images))


def test_dilated_depthwise_convolutions_of_timm_are_sped_up() -> None:
    backbone = TimmConfig(name="mobilenetv2_050", output_stride=16, weights=None)
    config = ConditionalDetrConfig(backbone=backbone, num_queries=7, dim=32, num_heads=4)
    detector = config.build(num_classes=5, pretrained=False)
    names = list(detector.state_dict())

    speed_up_training(detector)

    assert list(detector.state_dict()) == names
    assert sum(type(module) is DilatedDepthwiseConvolution for module in detector.modules()) == 3


def test_a_sped_up_detector_keeps_names_and_tensors_and_computes_the_same() -> None:
    torch.manual_seed(0)
    config = ConditionalDetrConfig(
        backbone=SmallResNetConfig(widths=(16, 16), blocks=(1,)), num_queries=7, dim=32, num_heads=4, dropout=0.2
    )
    detector = config.build(num_classes=5, pretrained=False)
    images, is_padding = torch.randn(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool)
    names, expected = list(detector.state_dict()), detector.eval()(images, is_padding).final
    speed_up_training(detector)

    assert list(detector.state_dict()) == names
    torch.testing.assert_close(detector(images, is_padding).final, expected)
    assert not any(type(module) in (nn.Dropout, DotProductAttention) for module in detector.modules())
