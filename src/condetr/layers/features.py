"""Turn images into the sequence of feature-map cells for a transformer."""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.backbones.backbone import Backbone
from condetr.layers.positions import position_map


class Cells(NamedTuple):
    """The cells of a feature map in row-major order."""

    features: Float[Tensor, "B S D"]
    positions: Float[Tensor, "B S D"]
    is_padding: Bool[Tensor, "B S"]


class FeatureMap(nn.Module):
    """Backbone, projection to the transformer's width, and the position of every cell (DETR, section 3.2)."""

    def __init__(self, backbone: Backbone, *, dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = nn.Conv2d(backbone.channels[-1], dim, kernel_size=1)
        self.dim = dim
        self.stride = backbone.strides[-1]

    def forward(self, images: Float[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"]) -> Cells:
        """Return the projected features with positions and the padding mask at their resolution."""
        features = self.projection(self.backbone(images)[-1])
        # Nearest neighbour: a cell is padding if the pixel at its corner is padding.
        is_padding = F.interpolate(is_padding[None].float(), size=features.shape[-2:])[0].bool()
        return Cells(
            features=features.flatten(2).transpose(1, 2),
            positions=position_map(is_padding, dim=self.dim),
            is_padding=is_padding.flatten(1),
        )
