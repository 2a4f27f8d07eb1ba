"""The detectors that settings can name by `kind`, and the published forms of those that have one."""

from typing import Annotated

import pydantic

from condetr.detectors import conditional_detr, deformable_detr, detr, faster_rcnn, fcos, tsp_fcos, tsp_rcnn
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.detectors.faster_rcnn import FasterRcnnConfig
from condetr.detectors.fcos import FcosConfig
from condetr.detectors.published import Detectron2Model, Published, TorchvisionModel
from condetr.detectors.tsp_fcos import TspFcosConfig
from condetr.detectors.tsp_rcnn import TspRcnnConfig

DetectorConfig = Annotated[
    ConditionalDetrConfig
    | DetrConfig
    | DeformableDetrConfig
    | FcosConfig
    | FasterRcnnConfig
    | TspFcosConfig
    | TspRcnnConfig,
    pydantic.Discriminator("kind"),
]

DEFAULT_DETECTOR = ConditionalDetrConfig()

PUBLISHED: dict[type[DetectorConfig], Published] = {
    ConditionalDetrConfig: conditional_detr.PUBLISHED,
    DetrConfig: detr.PUBLISHED,
    DeformableDetrConfig: deformable_detr.PUBLISHED,
}
"""Published forms by the class of the settings; a checkpoint belongs to the first one whose mark it has."""

TORCHVISION: dict[type[DetectorConfig], TorchvisionModel] = {
    FcosConfig: fcos.TORCHVISION,
    FasterRcnnConfig: faster_rcnn.TORCHVISION,
}
"""Forms in torchvision by the class of the settings; a state belongs to the first one whose mark it has."""

DETECTRON2: dict[type[DetectorConfig], Detectron2Model] = {
    TspFcosConfig: tsp_fcos.DETECTRON2,
    TspRcnnConfig: tsp_rcnn.DETECTRON2,
}
"""Forms in their authors' code on detectron2 by the class of the settings, as above."""
