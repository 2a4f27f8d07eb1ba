import pytest
import torch

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.errors import InputWarning
from condetr.optimize import machine, onednn
from condetr.optimize.fast import optimize
from condetr.optimize.machine import is_emulated, resolve_dtype
from tests.tiny import TINY

CPU = torch.device("cpu")


@pytest.mark.parametrize("is_native", [False, True])
def test_what_auto_means_and_what_is_emulated(monkeypatch: pytest.MonkeyPatch, *, is_native: bool) -> None:
    monkeypatch.setattr(machine, "has_native_bf16", lambda device: is_native)
    assert resolve_dtype("auto", device=CPU) == (torch.bfloat16 if is_native else torch.float32)
    assert is_emulated(torch.bfloat16, device=CPU) != is_native
    assert not is_emulated(torch.float32, device=CPU)
    assert not is_emulated(torch.bfloat16, device=torch.device("mps"))


def test_bf16_where_the_processor_has_none_is_slow_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_native_bf16", lambda device: False)
    monkeypatch.setattr(onednn, "has_bf16_kernels", lambda: False)
    torch.manual_seed(0)
    detector = ConditionalDetrConfig(**TINY).build(num_classes=3).eval()
    inputs = torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool)

    with pytest.warns(InputWarning, match="bf16 is slow on this machine"):
        fast = optimize(detector, precision="bf16")

    assert not any(isinstance(module, onednn.PackedConvolution) for module in fast.modules())
    with torch.inference_mode():
        expected, found = detector(*inputs).final, fast(*inputs).final
    torch.testing.assert_close(found.logits, expected.logits, rtol=0.05, atol=0.1)
