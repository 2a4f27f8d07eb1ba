import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from condetr.config import override
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.detectors.fcos import FcosConfig
from condetr.engine.muon import TINY, Muon, orthogonal
from condetr.engine.optim import OptimizerConfig, Optimizers, SgdConfig, set_learning_rates
from condetr.errors import InputError
from tests.tiny import tiny


def slowly_orthogonal(matrix: np.ndarray) -> np.ndarray:
    """Return U f(S) V^T in double precision, where f is the quintic five times."""
    u, s, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    found: np.ndarray = (u * s) @ vt
    return found


def slowly_trained(weight: np.ndarray, gradients: list[np.ndarray], *, lr: float, weight_decay: float) -> np.ndarray:
    """Return a matrix after a step with each gradient, as the method is published."""
    momentum, rows, columns = np.zeros(weight.shape), *weight.shape
    for gradient in gradients:
        momentum = 0.95 * momentum + gradient
        x = slowly_orthogonal(gradient + 0.95 * momentum)
        weight = (1 - lr * weight_decay) * weight - lr * np.sqrt(max(1, rows / columns)) * x
    return weight


def trained(weight: torch.Tensor, gradients: torch.Tensor, *, blocks: int = 1) -> torch.Tensor:
    parameter = nn.Parameter(weight.clone())
    optimizer = Muon([{"params": [parameter], "lr": 0.1, "blocks": blocks}], weight_decay=0.3)
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach()


@given(
    seed=st.integers(0, 999), rows=st.integers(1, 12), columns=st.integers(1, 12), scale=st.sampled_from([1e-6, 1, 1e6])
)
def test_orthogonal_keeps_singular_vectors(seed: int, rows: int, columns: int, scale: float) -> None:
    matrices = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(seed))
    found = orthogonal(matrices * scale)
    expected = np.stack([slowly_orthogonal(matrix) for matrix in matrices.numpy()])
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)])
def test_steps_are_those_of_the_published_method(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight, gradients = torch.randn(shape), torch.randn(6, *shape)
    expected = slowly_trained(weight.double().numpy(), [*gradients.double().numpy()], lr=0.1, weight_decay=0.3)
    np.testing.assert_allclose(trained(weight, gradients).numpy(), expected, atol=1e-4)


def test_query_key_and_value_in_one_matrix_move_as_three() -> None:
    torch.manual_seed(0)
    fused, gradients = torch.randn(24, 8), torch.randn(5, 24, 8)
    parts = zip(fused.chunk(3), gradients.chunk(3, dim=1), strict=True)
    apart = torch.cat([trained(weight, gradient) for weight, gradient in parts])
    torch.testing.assert_close(trained(fused, gradients, blocks=3), apart)
    assert (trained(fused, gradients) - apart).abs().max() > 0.01


def test_only_directions_of_gradients_count() -> None:
    torch.manual_seed(0)
    weight, gradients = torch.randn(6, 8), torch.randn(4, 6, 8)
    torch.testing.assert_close(trained(weight, gradients), trained(weight, 1e-4 * gradients), atol=1e-4, rtol=0)


def test_a_matrix_without_a_gradient_to_speak_of_stays() -> None:
    weight, gradient = torch.randn(6, 6), torch.randn(1, 6, 6)
    assert torch.equal(trained(weight, TINY / 10 * gradient / gradient.norm()), weight)
    assert torch.equal(trained(weight, 0 * gradient), weight)


MUON = OptimizerConfig(kind="muon", lr=1e-3, backbone_lr=1e-3, muon_rate=5.0)


def matrices_of(optimizer: torch.optim.Optimizer) -> set[int]:
    assert isinstance(optimizer, Optimizers)
    return {id(parameter) for group in optimizer.parts["muon"].param_groups for parameter in group["params"]}


def step(detector: nn.Module, optimizer: torch.optim.Optimizer, *, number: int) -> None:
    torch.manual_seed(number)
    optimizer.zero_grad()
    logits, boxes_cxcywh = detector(torch.randn(1, 3, 32, 32), torch.zeros(1, 32, 32, dtype=torch.bool)).final
    (logits.square().mean() + boxes_cxcywh.square().mean()).backward()
    for part, limit in MUON.limits(optimizer):
        torch.nn.utils.clip_grad_norm_([p for group in part.param_groups for p in group["params"]], limit)
    set_learning_rates(optimizer, 1 / (1 + number))
    optimizer.step()


def test_a_detector_goes_on_from_a_saved_state_to_the_same_bits() -> None:
    config: Any = tiny(DetrConfig)
    whole = config.build(num_classes=2)
    optimizer = MUON.build(whole)
    for number in range(3):
        step(whole, optimizer, number=number)
    saved = io.BytesIO()
    torch.save((whole.state_dict(), optimizer.state_dict()), saved)
    saved.seek(0)
    resumed = config.build(num_classes=2)
    weights, state = torch.load(saved, weights_only=True)
    resumed.load_state_dict(weights)
    again = MUON.build(resumed)
    again.load_state_dict(state)
    for number in range(3, 6):
        step(whole, optimizer, number=number)
        step(resumed, again, number=number)
    for mine, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_rates_and_clipping_are_those_of_the_part() -> None:
    optimizer = MUON.build(tiny(DetrConfig).build(num_classes=2))
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-3, 5e-3, 5e-3]
    assert [limit for _, limit in MUON.limits(optimizer)] == [0.1, 0.1]


def test_sgd_keeps_what_it_has() -> None:
    config = OptimizerConfig(kind="muon", sgd=SgdConfig(all_but=("encoder",)))
    detector = tiny(ConditionalDetrConfig).build(num_classes=2)
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    assert {names[each].partition(".")[0] for each in matrices_of(config.build(detector))} == {"encoder"}


def test_a_detector_without_such_matrices_is_refused() -> None:
    detector = tiny(FcosConfig).build(num_classes=2)
    with pytest.raises(InputError, match=r"^optimizer\.kind=muon is for the matrices .*: use optimizer\.kind=adamw$"):
        MUON.build(detector)
    with pytest.raises(InputError, match=r"or name them in optimizer\.sgd\.all_but$"):
        OptimizerConfig(kind="muon", sgd=SgdConfig()).build(tiny(DetrConfig).build(num_classes=2))


def test_the_kind_is_chosen_without_losing_rates() -> None:
    recipe = OptimizerConfig(lr=4e-4, backbone_lr=1e-4)
    assert override(recipe, ["kind=muon"]) == OptimizerConfig(kind="muon", lr=4e-4, backbone_lr=1e-4)
    with pytest.raises(InputError, match="'adamw' or 'muon', got 'moun'"):
        override(recipe, ["kind=moun"])
