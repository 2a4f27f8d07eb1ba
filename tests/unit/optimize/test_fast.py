"""The fast form computes what the detector computes."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from condetr.backbones.resnet import ResNetConfig, SmallResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetr, ConditionalDetrConfig
from condetr.detectors.detr import Detr, DetrConfig
from condetr.optimize.fast import optimize
from condetr.optimize.norms import merge_frozen_norms

SMALL = SmallResNetConfig(widths=(8, 16, 24), blocks=(1, 2))
CONDITIONAL = ConditionalDetrConfig(
    backbone=SMALL, num_queries=7, dim=32, num_heads=4, feedforward_dim=48, encoder_layers=2, decoder_layers=3
)
DETR = DetrConfig(
    backbone=SMALL, num_queries=7, dim=32, num_heads=4, feedforward_dim=48, encoder_layers=2, decoder_layers=3
)
VARIANTS: dict[str, ConditionalDetrConfig | DetrConfig] = {
    "conditional": CONDITIONAL,
    "dc5": replace(CONDITIONAL, backbone=replace(SMALL, dilation=True)),
    "groups": replace(CONDITIONAL, query_groups=3),
    "no offsets": replace(CONDITIONAL, offset_regression=False),
    "one layer": replace(CONDITIONAL, decoder_layers=1),
    "softmax": replace(CONDITIONAL, scores="softmax"),
    **{f"reference {kind}": replace(CONDITIONAL, reference=kind) for kind in ("learned", "fixed")},
    **{f"form {form}": replace(CONDITIONAL, spatial_query=form) for form in ("C", "T", "P", "I")},
    **{f"T {form}": replace(CONDITIONAL, transformation=form) for form in ("identity", "scalar", "block", "full")},
    "detr": DETR,
    "detr with offsets": replace(DETR, offset_regression=True, scores="sigmoid"),
}


def build(config: ConditionalDetrConfig | DetrConfig) -> ConditionalDetr | Detr:
    """Return a detector whose every parameter and statistic has been drawn, so that none of them is neutral."""
    torch.manual_seed(0)
    detector = config.build(num_classes=5, pretrained=False).eval()
    for parameter in detector.parameters():
        if parameter.dim() < 2:
            nn.init.normal_(parameter, std=0.2)
    nn.init.normal_(detector.get_parameter("heads.box_head.layers.2.weight"), std=0.1)
    for norm in detector.modules():
        if isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 1.5)
            nn.init.normal_(norm.get_buffer("running_mean"), std=0.2)
    return detector


def batch(*, is_padded: bool, images: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    is_padding = torch.zeros(images, 72, 88, dtype=torch.bool)
    if is_padded:
        is_padding[0, 40:], is_padding[-1, :, 56:] = True, True
    pixels = torch.randn(images, 3, 72, 88, generator=torch.Generator().manual_seed(1))
    return pixels.masked_fill(is_padding[:, None], 0), is_padding


@pytest.mark.parametrize("is_padded", [False, True], ids=["unpadded", "padded"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_predictions_are_the_detectors_own(variant: str, *, is_padded: bool) -> None:
    detector = build(VARIANTS[variant])
    fast = optimize(detector, precision="fp32")
    inputs = batch(is_padded=is_padded)

    with torch.inference_mode():
        expected, found = detector(*inputs).final, fast(*inputs)

    torch.testing.assert_close(found.final.logits, expected.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.final.boxes_cxcywh, expected.boxes_cxcywh, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [ConditionalDetrConfig(), DetrConfig()], ids=["conditional", "detr"])
@pytest.mark.parametrize("dilation", [False, True], ids=["stride 32", "DC5"])
def test_published_architectures_keep_their_logits(config: ConditionalDetrConfig, *, dilation: bool) -> None:
    detector = build(replace(config, backbone=ResNetConfig(dilation=dilation)))
    fast = optimize(detector, precision="fp32")

    for is_padded in (False, True):
        inputs = batch(is_padded=is_padded)
        with torch.inference_mode():
            torch.testing.assert_close(fast(*inputs).final.logits, detector(*inputs).final.logits, rtol=0, atol=1e-4)


def test_results_do_not_depend_on_what_was_detected_before() -> None:
    fast = optimize(build(CONDITIONAL), precision="fp32")
    images, is_padding = batch(is_padded=False)
    inputs = images.clone()

    with torch.inference_mode():
        first = fast(images, is_padding).final.logits
        for size in range(40, 90, 8):
            fast(images[:, :, :size], is_padding[:, :size])
        fast(*batch(is_padded=True))
        again = fast(images, is_padding).final.logits

    torch.testing.assert_close(again, first)
    torch.testing.assert_close(images, inputs)


@pytest.mark.filterwarnings("ignore:bf16 is no faster")
def test_bf16_stays_near() -> None:
    detector = build(CONDITIONAL)
    fast = optimize(detector, precision="bf16")

    for is_padded in (False, True):
        inputs = batch(is_padded=is_padded)
        with torch.inference_mode():
            expected, found = detector(*inputs).final, fast(*inputs).final
        torch.testing.assert_close(found.logits.float(), expected.logits, rtol=0.05, atol=0.1)
        torch.testing.assert_close(found.boxes_cxcywh, expected.boxes_cxcywh, rtol=0, atol=0.02)


@pytest.mark.filterwarnings("ignore:bf16 is no faster")
def test_the_detector_stays_as_it_is() -> None:
    detector = build(CONDITIONAL)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}

    optimize(detector.train(), precision="bf16")

    assert detector.training
    assert all(parameter.requires_grad for parameter in detector.parameters())
    torch.testing.assert_close(dict(detector.state_dict()), before)


def test_a_detector_with_merged_norms_has_the_same_fast_form() -> None:
    detector = build(replace(CONDITIONAL, backbone=ResNetConfig(depth=18)))
    inputs = batch(is_padded=True)
    expected = optimize(detector, precision="fp32")(*inputs).final.logits

    merge_frozen_norms(detector)

    torch.testing.assert_close(optimize(detector, precision="fp32")(*inputs).final.logits, expected)


COMPILED = """
import torch
from condetr.backbones.resnet import SmallResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.optimize.fast import optimize

backbone = SmallResNetConfig(widths=(16, 16), blocks=(1,))
sizes = {"num_queries": 7, "dim": 32, "num_heads": 4, "feedforward_dim": 48, "encoder_layers": 1, "decoder_layers": 2}
detector = ConditionalDetrConfig(backbone=backbone, **sizes).build(num_classes=5, pretrained=False).eval()
images, is_padding = torch.randn(1, 3, 40, 48), torch.zeros(1, 40, 48, dtype=torch.bool)
with torch.inference_mode():
    expected = detector(images, is_padding).final
    found = optimize(detector, precision="fp32", compile=True)(images, is_padding).final
torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_compiled_code_computes_the_same() -> None:
    # In a process of its own: the compiler cannot read functions whose types are checked, as tests do.
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
