"""An exponential moving average of the weights."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from condetr.config import settings

Tensors = tuple[Tensor, ...] | list[Tensor]


@settings
class EmaConfig:
    """Keep an average of the weights, which is what is evaluated and exported."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9998
    """Weight of the past at each step; it starts lower, so that the average follows the first steps."""

    def build(self, detector: nn.Module) -> "Ema":
        """Start an average at the detector's present weights."""
        return Ema(detector, decay=self.decay)


class Ema(AveragedModel):
    """The averaged detector is `module`; running statistics of norms are averaged too."""

    def __init__(self, detector: nn.Module, *, decay: float) -> None:
        super().__init__(detector, multi_avg_fn=self._average, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def _average(self, averaged: Tensors, current: Tensors, updates: Tensor | int) -> None:
        updates = int(updates)
        weight = 1 - min(self.decay, (1 + updates) / (10 + updates))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:
            torch._foreach_copy_(averaged, current)
