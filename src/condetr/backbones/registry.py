"""The backbones that settings can name by `kind`."""

from typing import Annotated

import pydantic

from condetr.backbones.resnet import ResNetConfig, SmallResNetConfig
from condetr.backbones.timm import TimmConfig

BackboneConfig = Annotated[ResNetConfig | SmallResNetConfig | TimmConfig, pydantic.Discriminator("kind")]
