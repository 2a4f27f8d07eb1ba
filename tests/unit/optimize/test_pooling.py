import pytest
import torch
from torch import nn
from torch.nn import functional as F

from condetr.optimize.onednn import pack_convolutions
from condetr.optimize.pooling import NonNegativeMaxPool


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("size_hw", [(8, 10), (7, 10), (8, 9), (1, 1), (2, 1)])
def test_results_are_those_of_torch(size_hw: tuple[int, int], dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, *size_hw, generator=torch.Generator().manual_seed(0)).relu().to(dtype)
    x[0, 0] = torch.inf
    x = x.contiguous(memory_format=torch.channels_last)
    before = x.clone()

    found = NonNegativeMaxPool()(x)

    torch.testing.assert_close(found, F.max_pool2d(x, 3, 2, 1), rtol=0, atol=0)
    torch.testing.assert_close(x, before)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2, 2), nn.MaxPool2d(3, 2), nn.MaxPool2d(3, 2, 1, ceil_mode=True)])
def test_other_poolings_stay(pool: nn.MaxPool2d) -> None:
    assert NonNegativeMaxPool.stands_for(nn.MaxPool2d(3, 2, 1))
    assert not NonNegativeMaxPool.stands_for(pool)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Identity()], ids=["relu", "nothing"])
def test_only_activations_are_pooled_as_non_negative(activation: nn.Module) -> None:
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), activation, nn.MaxPool2d(3, 2, 1)).requires_grad_(False)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = stem(x)

    packed = pack_convolutions(nn.Sequential(stem))

    torch.testing.assert_close(packed(x), expected)
    pools = [type(module) for module in packed.modules() if "Pool" in type(module).__name__]
    assert pools == [NonNegativeMaxPool if isinstance(activation, nn.ReLU) else nn.MaxPool2d]
