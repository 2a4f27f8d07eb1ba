"""An exponential moving average of the weights."""

import copy
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from condetr.config import settings


@settings
class EmaConfig:
    """Keep an average of the weights, which is what is evaluated and exported."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9998
    """Weight of the past at each step; it starts lower, so that the average follows the first steps."""

    def build(self, detector: nn.Module) -> "Ema":
        """Start an average at the detector's present weights."""
        return Ema(detector, decay=self.decay)


class Ema(nn.Module):
    """The averaged detector is `module`; running statistics of norms are averaged too.

    It does what torch's AveragedModel does, but that waits for a GPU in every update.
    """

    n_averaged: Tensor

    def __init__(self, detector: nn.Module, *, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(detector)
        self.decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))

    @torch.no_grad()
    def update(self, detector: nn.Module) -> None:
        """Move the average towards a detector's weights, the first time all the way."""
        updates = int(self.n_averaged)
        weight = 1 - min(self.decay, (1 + updates) / (10 + updates)) if updates else 1.0
        torch._foreach_lerp_(_floating(self.module), _floating(detector), weight)
        for averaged, current in zip(self.module.buffers(), detector.buffers(), strict=True):
            if not averaged.is_floating_point():
                averaged.copy_(current)
        self.n_averaged += 1


def _floating(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
