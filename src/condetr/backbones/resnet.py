"""ResNet backbones from torchvision, and a small one for training from scratch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from condetr.backbones.backbone import Backbone
from condetr.backbones.weights import load_weights
from condetr.config import settings
from condetr.errors import InputError

Norm = Literal["frozen", "batch"]
"""`frozen`: fixed statistics of the pretrained network (DETR). `batch`: trainable, for training from scratch."""

NORM_LAYERS: dict[Norm, Callable[..., nn.Module]] = {"frozen": FrozenBatchNorm2d, "batch": nn.BatchNorm2d}

SHALLOWEST_BOTTLENECKS = 50
"""Depth from which on torchvision's ResNets have bottlenecks."""

STAGES = (("conv1", "bn1", "relu", "maxpool"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


@settings
class ResNetConfig:
    """A torchvision ResNet, output stride 32 (16 with `dilation`)."""

    kind: Literal["resnet"] = "resnet"
    depth: Literal[18, 34, 50, 101] = 50
    dilation: bool = False
    """DC5: the last stage keeps the resolution of the one before it, its convolutions are dilated instead."""
    stride_in_1x1: bool = False
    """A stage's stride is on the first 1x1 convolution of its bottlenecks, as in the first ResNets (He et al., 2016),
    in place of the 3x3 one, as in torchvision's weights."""
    norm: Norm = "frozen"
    frozen_stages: int = 2
    """The number of frozen stages; the stem counts as the first (DETR: stem and layer1)."""
    weights: str | None = "imagenet"
    """`imagenet` (torchvision's IMAGENET1K_V1, downloaded once), a local .pth or .safetensors file, or null."""

    def build(self, *, pretrained: bool, levels: int = 1) -> "ResNet":
        """Build the backbone, which returns so many of its last maps; without `pretrained` nothing is read."""
        if self.stride_in_1x1 and self.depth < SHALLOWEST_BOTTLENECKS:
            raise InputError(f"stride_in_1x1 needs a ResNet of bottlenecks, of depth 50 or 101, got {self.depth}")
        backbone = ResNet(
            depth=self.depth,
            dilation=self.dilation,
            stride_in_1x1=self.stride_in_1x1,
            norm_layer=NORM_LAYERS[self.norm],
            frozen_stages=self.frozen_stages,
            levels=levels,
        )
        if pretrained and self.weights == "imagenet":
            load_weights(backbone.body, _imagenet_weights(self.depth), source=f"torchvision resnet{self.depth}")
        elif pretrained and self.weights is not None:
            load_weights(backbone.body, Path(self.weights), source=self.weights)
        return backbone


class ResNet(Backbone):
    """Images to the feature maps of the last stages."""

    def __init__(
        self,
        *,
        depth: int,
        dilation: bool,
        stride_in_1x1: bool,
        norm_layer: Callable[..., nn.Module],
        frozen_stages: int,
        levels: int,
    ) -> None:
        super().__init__()
        network = getattr(torchvision_resnet, f"resnet{depth}")(norm_layer=norm_layer)
        self.body = nn.Sequential()
        for stage_index, names in enumerate(STAGES):
            for name in names:
                self.body.add_module(name, getattr(network, name))
                self.body.get_submodule(name).requires_grad_(stage_index >= frozen_stages)
        if stride_in_1x1:
            _move_strides(self.body)
        if dilation:
            _replace_stride_by_dilation(network.layer4)
        deepest: int = network.fc.in_features
        self.channels = (deepest // 8, deepest // 4, deepest // 2, deepest)[-levels:]
        self.strides = (4, 8, 16, 16 if dilation else 32)[-levels:]

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the maps of the last stages."""
        return _last_maps(self.body, images, levels=len(self.channels))


@settings
class SmallResNetConfig:
    """A small ResNet for small images: a strided stem, then a stage of basic blocks for each width."""

    kind: Literal["small_resnet"] = "small_resnet"
    widths: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = (32, 64, 128, 192)
    """Channels of the stem (stride 2) and of each stage."""
    blocks: tuple[Annotated[int, Field(ge=1, le=128)], ...] = (1, 2, 2)
    """Residual blocks in each stage."""
    dilation: bool = False
    """DC5: the last stage keeps the resolution of the one before it, its convolutions are dilated instead."""
    weights: str | None = None
    """A local .pth or .safetensors file to start from, or null."""

    def build(self, *, pretrained: bool, levels: int = 1) -> "SmallResNet":
        """Build the backbone, which returns so many of its last maps; without `pretrained` nothing is read."""
        if len(self.widths) != len(self.blocks) + 1:
            raise InputError(f"widths needs one entry more than blocks, got {self.widths} and {self.blocks}")
        backbone = SmallResNet(widths=self.widths, blocks=self.blocks, dilation=self.dilation, levels=levels)
        if pretrained and self.weights is not None:
            load_weights(backbone, Path(self.weights), source=self.weights)
        return backbone


class SmallResNet(Backbone):
    """Images to the feature maps of the last stages, with trainable batch norm."""

    def __init__(self, *, widths: tuple[int, ...], blocks: tuple[int, ...], dilation: bool, levels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential(
            *(_stage(*widths[i : i + 2], num_blocks=num_blocks) for i, num_blocks in enumerate(blocks))
        )
        if dilation:
            _replace_stride_by_dilation(self.stages[-1])
        strides = [2 ** (stage + 2) for stage in range(len(blocks))]
        self.channels = widths[1:][-levels:]
        self.strides = (*strides[:-1], strides[-1] // (1 + dilation))[-levels:]

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the maps of the last stages."""
        return _last_maps(self.stages, self.stem(images), levels=len(self.channels))


def _last_maps(stages: nn.Module, x: Float[Tensor, "B _ _ _"], *, levels: int) -> tuple[Float[Tensor, "B _ _ _"], ...]:
    if levels == 1:
        return (stages(x),)
    maps = []
    for stage in stages.children():
        x = stage(x)
        maps.append(x)
    return tuple(maps[-levels:])


def _stage(width_in: int, width: int, *, num_blocks: int) -> nn.Sequential:
    shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))
    first = BasicBlock(width_in, width, stride=2, downsample=shortcut)
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(num_blocks - 1)))


def _move_strides(body: nn.Module) -> None:
    """Exchange the strides of the first two convolutions of bottlenecks."""
    for block in body.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def _replace_stride_by_dilation(stage: nn.Module) -> None:
    """Keep the resolution of a stage; every 3x3 convolution after the one that lost its stride is dilated by 2."""
    strided_yet = False
    for module in stage.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if module.kernel_size == (3, 3) and strided_yet:
            module.dilation = module.padding = (2, 2)
        strided_yet |= module.kernel_size == (3, 3)
        module.stride = (1, 1)


def _imagenet_weights(depth: int) -> dict[str, Tensor]:
    """Download torchvision's IMAGENET1K_V1 weights, or take them from the local cache."""
    weights = getattr(torchvision_resnet, f"ResNet{depth}_Weights").IMAGENET1K_V1
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise InputError(
            f"the ImageNet weights of ResNet-{depth} could not be downloaded from {weights.url} ({error}); get the "
            "file elsewhere and pass it with --set detector.backbone.weights=FILE, or start from other weights with "
            "--init-from"
        ) from None
    return state
