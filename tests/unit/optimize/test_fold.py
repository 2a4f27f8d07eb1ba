import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from condetr.backbones.backbone import Backbone as AnyBackbone
from condetr.backbones.timm import TimmConfig
from condetr.optimize.norms import fold_batch_norms


class Part(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.norm2 = nn.Conv2d(6, 6, 1, bias=False), FrozenBatchNorm2d(6)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm1(self.first(x)))
        y = self.relu(x + self.norm2(self.second(x)))
        return y + 2 * x  # type: ignore[no-any-return]


class Backbone(AnyBackbone):
    def __init__(self) -> None:
        super().__init__()
        self.part = Part()
        for name in ("norm1", "norm2"):
            nn.init.uniform_(self.part.get_buffer(f"{name}.running_var"), 0.5, 2)
            nn.init.normal_(self.part.get_buffer(f"{name}.running_mean"))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.part(images),)


@torch.inference_mode()
def test_folding_changes_no_result() -> None:
    backbone, images = Backbone().eval(), torch.randn(2, 3, 9, 11)
    expected = backbone(images)

    fold_batch_norms(backbone)

    assert not any(isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d) for module in backbone.modules())
    torch.testing.assert_close(backbone(images), expected)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@torch.inference_mode()
def test_a_timm_backbone_keeps_its_features(norm: str) -> None:
    torch.manual_seed(0)
    backbone = TimmConfig(name="mobilenetv2_050", norm=norm, output_stride=16).build(pretrained=False).eval()  # type: ignore[arg-type]
    images = torch.randn(1, 3, 64, 96)

    expected = backbone(images)

    fold_batch_norms(backbone)

    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-4)
