"""Batch norms with fixed statistics, alone and merged into the convolutions before them."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from condetr.optimize.weight_gradient import convolve

NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)


@torch.no_grad()
def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return s and t of the y = s x + t that a batch norm with fixed statistics computes in each channel."""
    values = dict(norm.named_parameters()) | dict(norm.named_buffers())
    scale = values["weight"] * (values["running_var"] + cast(float, norm.eps)).rsqrt()
    return scale, values["bias"] - values["running_mean"] * scale


class AppliedNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """A frozen norm that keeps its statistics but does nothing, because the convolution before it applies it."""

    def __init__(self, norm: FrozenBatchNorm2d) -> None:
        super().__init__(len(norm.weight), eps=norm.eps)
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """Return the input."""
        return x


class NormedConvolution(nn.Conv2d):
    """A convolution without bias that applies the frozen norm after it."""

    def __init__(self, convolution: nn.Conv2d, norm: AppliedNorm) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(convolution.__dict__)  # the same geometry, the same parameter
        self.norm = (norm,)  # in a tuple, because the surrounding module already contains it

    def forward(self, x: Float[Tensor, "B D_in H W"]) -> Float[Tensor, "B D_out H_out W_out"]:
        """Return norm(convolution(x))."""
        scale, shift = scale_and_shift(self.norm[0])
        return convolve(x, self.weight * scale[:, None, None, None], shift, like=self)

    def plain(self) -> nn.Conv2d:
        """Return the convolution without the norm."""
        convolution = nn.Conv2d.__new__(nn.Conv2d)
        convolution.__dict__.update(self.__dict__)
        del convolution.__dict__["norm"]
        return convolution
