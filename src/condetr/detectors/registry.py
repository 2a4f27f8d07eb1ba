"""The detectors that settings can name by `kind`, and what those are known by that others publish, too."""

from typing import Annotated

import pydantic

from condetr.detectors import conditional_detr, detr, faster_rcnn, fcos
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.detectors.faster_rcnn import FasterRcnnConfig
from condetr.detectors.fcos import FcosConfig
from condetr.detectors.published import Published, TorchvisionModel

DetectorConfig = Annotated[
    ConditionalDetrConfig | DetrConfig | FcosConfig | FasterRcnnConfig, pydantic.Discriminator("kind")
]

DEFAULT_DETECTOR = ConditionalDetrConfig()

PUBLISHED: dict[type[DetectorConfig], Published] = {
    ConditionalDetrConfig: conditional_detr.PUBLISHED,
    DetrConfig: detr.PUBLISHED,
}
"""By the class of their settings; a checkpoint is the first one's whose mark it bears."""

TORCHVISION: dict[type[DetectorConfig], TorchvisionModel] = {
    FcosConfig: fcos.TORCHVISION,
    FasterRcnnConfig: faster_rcnn.TORCHVISION,
}
"""By the class of their settings; a state is the first one's whose mark it bears."""
