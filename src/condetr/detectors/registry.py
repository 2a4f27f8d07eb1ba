"""The detectors that settings can name by `kind`."""

from typing import Annotated

import pydantic

from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig

DetectorConfig = Annotated[ConditionalDetrConfig | DetrConfig, pydantic.Discriminator("kind")]

DEFAULT_DETECTOR = ConditionalDetrConfig()
