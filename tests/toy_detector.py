"""A detector in one file, as a newcomer would add it: every cell of a feature map predicts one object.

`python -m tests.toy_detector ARGUMENTS` is the command `condetr` with this detector's name in the registry.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import pydantic
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from condetr.backbones.registry import BackboneConfig
from condetr.backbones.resnet import SmallResNetConfig
from condetr.config import settings
from condetr.detectors import registry
from condetr.detectors.detector import Detector, DetectorSettings
from condetr.detectors.scores import build_set_criterion, rank_sigmoid
from condetr.layers.features import FeatureMap
from condetr.layers.heads import PredictionHeads, layer_sets
from condetr.losses.criterion import CriterionConfig, SetCriterion
from condetr.shapes import DetectorOutput, Found, Targets


@settings
class ToyConfig(DetectorSettings):
    """Settings of the toy detector."""

    kind: Literal["toy"] = "toy"
    backbone: BackboneConfig = SmallResNetConfig(widths=(8, 16, 32), blocks=(1, 1))
    dim: int = 32
    criterion: CriterionConfig = CriterionConfig()

    def build(self, *, num_classes: int, pretrained: bool = True) -> "Toy":
        """Build the detector."""
        return Toy(
            FeatureMap(self.backbone.build(pretrained=pretrained), dim=self.dim),
            heads=PredictionHeads(self.dim, num_classes=num_classes, has_no_object=False, start_at_reference=False),
        )

    def build_criterion(self) -> SetCriterion:
        """Build the criterion for training."""
        return build_set_criterion(self.criterion, scores="sigmoid")


class Toy(Detector):
    """Backbone and heads: a cell sees what is around it, and where it is."""

    score_function = "sigmoid"

    def __init__(self, features: FeatureMap, *, heads: PredictionHeads) -> None:
        super().__init__()
        self.features = features
        self.heads = heads
        self.strides = (features.stride,)
        self.most_objects = 64

    def forward(
        self, images: Float[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"], targets: Targets | None = None
    ) -> DetectorOutput:
        """Predict from every cell."""
        cells = self.features(images, is_padding)
        embeddings = torch.relu(cells.features + cells.positions)
        return DetectorOutput(layer_sets(self.heads(embeddings[None], reference_xy=None)))

    def found(self, output: DetectorOutput, *, limit: int) -> list[Found]:
        """Return the detections of the cells."""
        return rank_sigmoid(output.final, limit)

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Restrict the detector to the classes of the given rows."""
        self.heads.keep_classes(rows)


def main() -> None:
    """Run the command with a line more in the registry, which everything else reads when it is imported."""
    known = get_args(registry.DetectorConfig)[0]
    vars(registry)["DetectorConfig"] = Annotated[known | ToyConfig, pydantic.Discriminator("kind")]
    from condetr.cli.main import main as condetr

    condetr()


if __name__ == "__main__":
    main()
