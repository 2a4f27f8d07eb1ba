import subprocess
import sys

import pytest
import torch
from torch import nn

from condetr.backbones.resnet import SmallResNetConfig
from condetr.optimize.training import memory_format

CPU = torch.device("cpu")
LEARN = """
import torch
from condetr.backbones.resnet import SmallResNetConfig
from condetr.optimize.training import memory_format
backbone = SmallResNetConfig(widths=(4, 8), blocks=(1,)).build(pretrained=False)
backbone = backbone.to(memory_format=memory_format(backbone, device=torch.device("cpu")))
for _ in range(30):
    backbone(torch.randn(4, 3, 128, 128))[-1].square().sum().backward()
"""


@pytest.mark.parametrize(("widths", "expected"), [((8, 16), torch.contiguous_format), ((16, 32), torch.channels_last)])
def test_a_narrow_backbone_is_laid_out_for_gradients_that_can_be_computed(
    widths: tuple[int, ...], expected: torch.memory_format
) -> None:
    backbone = SmallResNetConfig(widths=widths, blocks=(1,)).build(pretrained=False)
    assert memory_format(backbone, device=CPU) == expected
    assert memory_format(backbone, device=torch.device("cuda")) == torch.channels_last


def test_only_strided_1x1_convolutions_count() -> None:
    assert memory_format(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 1)), device=CPU) == (
        torch.channels_last
    )


def test_a_narrow_backbone_learns_without_damaging_memory() -> None:
    # In a process of its own: it used to die of "malloc(): corrupted top size" or a segmentation fault.
    done = subprocess.run([sys.executable, "-c", LEARN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
