"""Muon: momentum, made orthogonal, as the step of a matrix (Jordan et al., https://kellerjordan.github.io/posts/muon)."""

import math
from collections import defaultdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

MOMENTUM = 0.95
STEPS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration, which brings all singular values to between 0.7 and 1.2."""
TINY = 1e-10
"""The norm below which a matrix makes no step: its direction would be rounding."""


class Muon(torch.optim.Optimizer):
    """Steps of equal size along all singular directions of the momentum (Nesterov's).

    A group with `blocks` has parameters that hold so many matrices one above the other, such as the fused projection of
    query, key and value; each of them makes a step of its own. In several processes it needs no care: the gradients
    are those after the all-reduce. Largest logits of attention are not recorded: fused attention never forms them.

    torch.optim.Muon does not split, and computes in bf16, which many processors emulate. Here matrices of equal shape
    are computed together, and autocast decides on the precision of products.
    """

    def __init__(self, groups: list[dict[str, Any]], *, weight_decay: float) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": weight_decay, "blocks": 1})
        for group in self.param_groups:
            assert all(p.ndim == 2 and len(p) % group["blocks"] == 0 for p in group["params"])

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make a step with every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    blocks = (each.chunk(group["blocks"]) for each in (parameter, self._momentum(parameter)))
                    for weight, momentum in zip(*blocks, strict=True):
                        by_shape[weight.shape].append((weight, momentum))
            for pairs in by_shape.values():
                _move(pairs, lr=group["lr"], weight_decay=group["weight_decay"])

    def _momentum(self, parameter: Tensor) -> Tensor:
        """Update a parameter's momentum, and return what it will be if the gradient stays (Nesterov)."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(state["momentum"], MOMENTUM)


def _move(pairs: list[tuple[Tensor, Tensor]], *, lr: float, weight_decay: float) -> None:
    """Move matrices of one shape, each given with its momentum."""
    weights, momenta = (torch.stack(each) for each in zip(*pairs, strict=True))
    rows, columns = weights.shape[1:]
    moves = lr * (weight_decay * weights + math.sqrt(max(1, rows / columns)) * orthogonal(momenta))
    moves *= momenta.flatten(1).norm(dim=1)[:, None, None] >= TINY
    for (weight, _), move in zip(pairs, moves, strict=True):
        weight -= move


def orthogonal(matrices: Float[Tensor, "N rows columns"]) -> Float[Tensor, "N rows columns"]:
    """Return nearly orthogonal matrices with the singular vectors of the given ones, by Newton-Schulz iteration."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if is_tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=TINY)[:, None, None]
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x
