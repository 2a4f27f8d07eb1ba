import pytest
import torch

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.errors import InputWarning
from condetr.optimize import machine
from condetr.optimize.fast import optimize
from condetr.optimize.machine import is_slow, resolve_dtype
from tests.tiny import TINY

CPU = torch.device("cpu")


@pytest.mark.parametrize("is_faster", [False, True])
def test_what_auto_means_and_what_is_slow(monkeypatch: pytest.MonkeyPatch, *, is_faster: bool) -> None:
    monkeypatch.setattr(machine, "has_fast_bf16", lambda device: is_faster)
    assert resolve_dtype("auto", device=CPU) == (torch.bfloat16 if is_faster else torch.float32)
    assert is_slow(torch.bfloat16, device=CPU) != is_faster
    assert not is_slow(torch.float32, device=CPU)
    assert not is_slow(torch.bfloat16, device=torch.device("mps"))


def test_bf16_where_it_is_not_faster_is_told_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_fast_bf16", lambda device: False)
    detector = ConditionalDetrConfig(**TINY).build(num_classes=3).eval()
    inputs = torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool)

    with pytest.warns(InputWarning, match="bf16 is no faster"):
        fast = optimize(detector, precision="bf16")

    with torch.inference_mode():
        expected, found = detector(*inputs).final, fast(*inputs).final
    torch.testing.assert_close(found.logits.float(), expected.logits, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("times", [(1.0, 1.0), (1.0, 1.05), (1.0, 2.0), (2.0, 1.0)])
def test_a_form_is_faster_if_its_best_round_clearly_is(
    times: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = (lambda: None for _ in times)
    rounds = {ours: iter([9.0] * 5 + [times[0]] + [9.0] * 99), theirs: iter([times[1]] + [9.0] * 99)}
    monkeypatch.setattr(machine, "_seconds", lambda run: next(rounds[run]))

    assert machine._is_faster(ours, than=theirs) == (times[1] > 1.1 * times[0])


def test_measuring_draws_no_random_numbers_and_runs_within_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "remembered", lambda what, *, measure: measure())
    state = torch.get_rng_state()

    with torch.inference_mode():
        answers = machine.has_fast_bf16(CPU), machine.has_fast_linear_layers()

    assert all(isinstance(answer, bool) for answer in answers)
    assert torch.equal(torch.get_rng_state(), state)
