"""What a training would do with data, as far as the data has to suit it."""

from dataclasses import dataclass

from condetr.data.geometry import resized_hw
from condetr.data.transforms import LightTransformConfig, TransformConfig

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of a recipe that decide whether data fits it."""

    recipe: str
    summary: str = ""
    """What the recipe is, in a few words."""
    most_objects: int
    """How many can be found, or learned from, in one image."""
    has_queries: bool = True
    """Whether `detector.num_queries` decides on that."""
    stride: int
    """Pixels per cell of the feature map."""
    transform: TransformConfig
    batch_size: int
    micro_batch_size: int | None = None
    """Images that are held at once, where that is fewer than a batch."""

    @property
    def images_at_once(self) -> int:
        """Images whose activations are in memory together."""
        return self.micro_batch_size or self.batch_size

    def seen_hw(self, size_hw: Size) -> Size:
        """Return the size at which an image of `size_hw` is evaluated."""
        return self.transform.eval_hw(size_hw)

    def largest_hw(self, size_hw: Size) -> Size:
        """Return the largest size at which an image of `size_hw` is trained on."""
        if isinstance(self.transform, LightTransformConfig):
            return self.seen_hw(size_hw)
        short_side = max(self.transform.short_sides)
        return resized_hw(size_hw, short_side=short_side, max_side=self.transform.max_side)
