"""The interface of a backbone."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Images to feature maps, from fine to coarse; the last one is the network's deepest."""

    channels: tuple[int, ...]
    """Of each map."""
    strides: tuple[int, ...]
    """Pixels per cell of each map."""

    @abstractmethod
    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the maps."""
