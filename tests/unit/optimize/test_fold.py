import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from condetr.backbones.timm import TimmConfig
from condetr.optimize.fold import fold_batch_norms
from condetr.optimize.onednn import PackedConvolution, pack_convolutions


class Part(nn.Module):
    """A residual block whose input is read once more after the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second, self.norm2 = nn.Conv2d(6, 6, 1, bias=False), FrozenBatchNorm2d(6)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm1(self.first(x)))
        y = self.relu(x + self.norm2(self.second(x)))
        return y + 2 * x  # type: ignore[no-any-return]


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Part()
        for name in ("norm1", "norm2"):
            nn.init.uniform_(self.part.get_buffer(f"{name}.running_var"), 0.5, 2)
            nn.init.normal_(self.part.get_buffer(f"{name}.running_mean"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.part(x)
        return features


@torch.inference_mode()
def test_folding_and_packing_change_no_result_where_a_term_is_read_again() -> None:
    backbone, images = Backbone().eval(), torch.randn(2, 3, 9, 11)
    expected = backbone(images)

    folded = fold_batch_norms(backbone)
    torch.testing.assert_close(folded(images), expected)

    packed = pack_convolutions(folded.to(memory_format=torch.channels_last))
    assert sum(isinstance(module, PackedConvolution) for module in packed.modules()) == 2
    torch.testing.assert_close(packed(images.contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@torch.inference_mode()
def test_a_timm_backbone_keeps_its_features(norm: str) -> None:
    torch.manual_seed(0)
    backbone = TimmConfig(name="mobilenetv2_050", norm=norm, output_stride=16).build(pretrained=False).eval()  # type: ignore[arg-type]
    images = torch.randn(1, 3, 64, 96).contiguous(memory_format=torch.channels_last)

    fast = pack_convolutions(fold_batch_norms(backbone).to(memory_format=torch.channels_last))

    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    torch.testing.assert_close(fast(images), backbone(images), rtol=1e-4, atol=1e-4)
