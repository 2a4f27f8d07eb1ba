"""A pyramid of feature maps over a backbone, and where in the image its cells lie."""

from collections import OrderedDict
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from condetr.backbones.backbone import Backbone

Grid = Literal["fixed", "torchvision"]
"""How far apart cells are. `fixed`: the map's stride. `torchvision`: the padded image's sides over the map's, rounded
down, as in torchvision's models, whose weights have learned it: the coarsest of five maps of an image of 800 x 1088
pixels has cells of 114 x 120 pixels there, not of 128 x 128."""

Top = Literal["pool", "convolutions", "normed_convolutions"]
"""What follows the backbone's last map. `pool`: a map of every second cell. `convolutions`: two maps, each made by a
convolution with stride 2. `normed_convolutions`: the same with batch norms."""

Maps = tuple[Float[Tensor, "B D _ _"], ...]


class Pyramid(nn.Module):
    """Backbone, lateral and top-down connections (Feature Pyramid Networks, section 3), and coarser maps on top."""

    def __init__(self, backbone: Backbone, *, dim: int, top: Top) -> None:
        super().__init__()
        self.backbone = backbone
        self.fpn = FeaturePyramidNetwork(list(backbone.channels), dim, extra_blocks=_top(top, dim=dim))
        deepest = backbone.strides[-1]
        self.strides = (*backbone.strides, *((2 * deepest,) if top == "pool" else (2 * deepest, 4 * deepest)))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Maps:
        """Return the maps from fine to coarse, of images that are padded to whole cells of the backbone's last map."""
        maps = self.backbone(self.padded(images))
        return tuple(self.fpn({str(level): each for level, each in enumerate(maps)}).values())

    def padded(self, images: Float[Tensor, "B 3 H_in W_in"]) -> Float[Tensor, "B 3 H W"]:
        """Return the images with zeros at the right and below."""
        height, width = images.shape[-2:]
        multiple = self.backbone.strides[-1]
        return F.pad(images, (0, -width % multiple, 0, -height % multiple))

    def cells_hw(self, maps: Maps, *, grid: Grid) -> tuple[tuple[int, int], ...]:
        """Return how many pixels high and wide the cells of each map are."""
        if grid == "fixed":
            return tuple((stride, stride) for stride in self.strides)
        multiple = self.backbone.strides[-1]
        height, width = (multiple * side for side in maps[len(self.backbone.strides) - 1].shape[-2:])
        return tuple((height // each.shape[-2], width // each.shape[-1]) for each in maps)


class NormedTop(ExtraFPNBlock):  # type: ignore[misc]
    """Two coarser maps by strided convolutions with batch norms: P6 of the last map, P7 of what is positive in P6."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.p6 = _normed_convolution(dim)
        self.p7 = _normed_convolution(dim)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Append the maps and their names, as the pyramid wants it."""
        p6: Tensor = self.p6(results[-1])
        p7: Tensor = self.p7(p6.relu())
        return [*results, p6, p7], [*names, "p6", "p7"]


class LevelNorm(nn.BatchNorm2d):
    """Batch norm for coarse maps: where a single cell is all there is, it has no variance, and what is known serves."""

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """Normalise by the batch in training, if it has several cells."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        normed: Tensor = super().forward(x)
        return normed


def _top(top: Top, *, dim: int) -> nn.Module:
    if top == "pool":
        pool: nn.Module = LastLevelMaxPool()
        return pool
    convolutions: nn.Module = NormedTop(dim) if top == "normed_convolutions" else LastLevelP6P7(dim, dim)
    return convolutions


def _normed_convolution(dim: int) -> nn.Sequential:
    convolution = nn.Conv2d(dim, dim, 3, stride=2, padding=1)
    return nn.Sequential(OrderedDict(conv=convolution, bn=LevelNorm(dim)))


def cell_corners(each: Float[Tensor, "B D H W"], *, cell_hw: tuple[int, int]) -> Float[Tensor, "S 2"]:
    """Return the pixels (x, y) in which the cells of a map begin, row by row."""
    (height, width), device = each.shape[-2:], each.device
    y, x = (torch.arange(count, device=device) * side for count, side in zip((height, width), cell_hw, strict=True))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1).float()


def image_sizes(is_padding: Bool[Tensor, "B H W"]) -> Float[Tensor, "B 2"]:
    """Return the width and height of each image without its padding, in pixels."""
    is_image = ~is_padding
    return torch.stack([is_image[:, 0].sum(1), is_image[:, :, 0].sum(1)], dim=-1).float()
