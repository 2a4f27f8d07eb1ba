"""An annotated split as values, before any pixel is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from condetr.labels import LabelMap


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One image and its ground truth, crowd regions included; degenerate boxes are already gone."""

    image_id: int
    """The data set's own id, or the position in the split where the layout has no ids."""
    path: Path
    size_hw: tuple[int, int]
    """Pixels as displayed, that is after EXIF orientation."""
    boxes_xyxy: Float[np.ndarray, "T 4"]
    """Pixels, clipped to the image."""
    labels: Int[np.ndarray, " T"]
    """Training ids."""
    is_crowd: Bool[np.ndarray, " T"]
    """True for regions that stand for many objects: no training target, ignored in evaluation."""
    areas: Float[np.ndarray, " T"]
    """Pixels squared, as the data gives them (COCO: of the mask), otherwise of the box."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The annotated images of one split, in a fixed order."""

    name: str
    records: tuple[ImageRecord, ...]
    label_map: LabelMap

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.records)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong or worth knowing in the data, counted over all images."""

    severity: Literal["error", "warning", "info"]
    what: str
    """One sentence, with the count in it."""
    count: int
    examples: tuple[str, ...]
    """The first few places, such as `images/12.jpg: box 3`."""

    @property
    def sentence(self) -> str:
        """All of it in a line."""
        examples = f" ({'; '.join(self.examples)})" if self.examples else ""
        return f"{self.severity}: {self.what}{examples}"
