"""FCOS: A Simple and Strong Anchor-free Object Detector (Tian et al., TPAMI 2021), from torchvision's parts.

Every cell of a feature pyramid stands for a point and predicts classes, the distances to the four sides of the object
around it, and how central the point is in it. Where objects overlap too much, the better one is kept.

Head, losses and choice are torchvision's. Two things differ by default, and `grid="torchvision"` is equal in both:
points lie in the middle of cells, as in the paper, not in their corners, and the distance between them is the map's
stride, whatever the size of the image.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from condetr.backbones.registry import BackboneConfig
from condetr.backbones.resnet import ResNetConfig
from condetr.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from condetr.config import settings
from condetr.detectors.choice import clipped, without_overlap
from condetr.detectors.detector import Detector, DetectorSettings, Width
from condetr.detectors.points import Points, assigned, boxes_around, points_of, true_centreness
from condetr.detectors.published import TorchvisionModel
from condetr.errors import InputError
from condetr.layers.pyramid import Grid, Pyramid, image_sizes
from condetr.losses.criterion import LossReport
from condetr.shapes import Found, Prediction, Targets

GROUPS = 32
"""Of channels that the head normalises together."""


@settings
class FcosConfig(DetectorSettings):
    """Settings of FCOS; the defaults are torchvision's with ResNet-50."""

    kind: Literal["fcos"] = "fcos"
    backbone: BackboneConfig = ResNetConfig()
    levels: Annotated[int, Field(ge=1, le=8)] = 3
    """How many of the backbone's last maps the pyramid stands on; two coarser ones follow."""
    dim: Width = 256
    convolutions: Annotated[int, Field(ge=0, le=16)] = 4
    """In each of the head's two towers."""
    grid: Grid = "fixed"
    centre_radius: Annotated[float, Field(gt=0)] = 1.5
    """How far from an object's centre the points lie that learn it, in strides."""
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """What a score, the root of class times centreness, must exceed."""
    candidates: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """How many of each level's best are considered."""
    most_overlap: Annotated[float, Field(gt=0, le=1)] = 0.6
    """IoU from which the worse of two objects of a class is dropped."""

    def build(self, *, num_classes: int, pretrained: bool = True) -> "Fcos":
        """Build the detector; without `pretrained` the backbone's weights are neither read nor downloaded."""
        if self.dim % GROUPS:
            raise InputError(f"detector.dim must be a multiple of {GROUPS}, got {self.dim}")
        backbone = self.backbone.build(pretrained=pretrained, levels=self.levels)
        return Fcos(
            Pyramid(backbone, dim=self.dim, top="convolutions"),
            head=FCOSHead(self.dim, num_anchors=1, num_classes=num_classes, num_convs=self.convolutions),
            grid=self.grid,
            choice=Choice(self.score_threshold, self.candidates, self.most_overlap),
        )

    def build_criterion(self) -> "FcosCriterion":
        """Build the losses that it learns from."""
        return FcosCriterion(centre_radius=self.centre_radius)


class Choice(NamedTuple):
    """How objects are chosen from what the points predict."""

    score_threshold: float
    candidates: int
    most_overlap: float


class FcosOutput(NamedTuple):
    """What the points predict."""

    logits: Float[Tensor, "B S K"]
    distances: Float[Tensor, "B S 4"]
    """To the left, upper, right and lower side, in strides."""
    centreness: Float[Tensor, "B S"]
    """As a logit."""
    points: Points
    sizes_wh: Float[Tensor, "B 2"]
    """Of the images without padding, in pixels."""

    @property
    def boxes_xyxy(self) -> Float[Tensor, "B S 4"]:
        """The boxes in pixels."""
        return boxes_around(self.points.xy, strides=self.points.strides, distances=self.distances)

    @property
    def final(self) -> Prediction:
        """What is found, before anything is chosen from it."""
        boxes_xyxy = self.boxes_xyxy / self.sizes_wh.repeat(1, 2)[:, None]
        return Prediction(self.logits, xyxy_to_cxcywh(boxes_xyxy))


class Fcos(Detector):
    """Backbone, pyramid, and a head that all levels share (section 3)."""

    score_function = None

    def __init__(self, pyramid: Pyramid, *, head: FCOSHead, grid: Grid, choice: Choice) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.head = head
        self.grid: Grid = grid
        self.choice = choice
        self.strides = pyramid.strides
        self.most_objects = choice.candidates * len(self.strides)

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> FcosOutput:
        """Predict from every point, those on padding too, as torchvision does; `targets` are not read."""
        maps = self.pyramid(images)
        predicted: dict[str, Tensor] = self.head(list(maps))
        return FcosOutput(
            logits=predicted["cls_logits"].float(),
            distances=predicted["bbox_regression"].float(),
            centreness=predicted["bbox_ctrness"][..., 0].float(),
            points=points_of(
                maps,
                strides=self.strides,
                cells_hw=self.pyramid.cells_hw(maps, grid=self.grid),
                shift=0.5 if self.grid == "fixed" else 0.0,
            ),
            sizes_wh=image_sizes(is_padding),
        )

    def found(self, output: FcosOutput, *, limit: int) -> list[Found]:
        """Return the best objects that do not overlap too much with better ones of their class."""
        scores = (output.logits.sigmoid() * output.centreness.sigmoid()[..., None]).sqrt()
        images = zip(scores, output.boxes_xyxy, output.sizes_wh, strict=True)
        return [self._chosen(*each, counts=output.points.counts, limit=limit) for each in images]

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Restrict the detector to the classes of the given rows of the class head, numbered in their order."""
        head = self.head.classification_head
        every, index = head.cls_logits, torch.tensor(rows)
        kept = nn.Conv2d(every.in_channels, len(rows), kernel_size=3, padding=1)
        kept.load_state_dict({name: tensor[index] for name, tensor in every.state_dict().items()})
        head.cls_logits, head.num_classes = kept, len(rows)

    def _chosen(
        self,
        scores: Float[Tensor, "S K"],
        boxes_xyxy: Float[Tensor, "S 4"],
        size_wh: Float[Tensor, "2"],
        *,
        counts: tuple[int, ...],
        limit: int,
    ) -> Found:
        best = [self._candidates(each) for each in scores.split(counts)]
        starts = [sum(counts[:level]) * scores.shape[1] for level in range(len(counts))]
        places = torch.cat([start + each for start, each in zip(starts, best, strict=True)])
        points, labels = places // scores.shape[1], places % scores.shape[1]
        return without_overlap(
            clipped(boxes_xyxy[points], size_wh=size_wh),
            scores.flatten()[places],
            labels,
            source=points,
            size_wh=size_wh,
            most_overlap=self.choice.most_overlap,
            limit=limit,
        )

    def _candidates(self, scores: Float[Tensor, "S K"]) -> Int[Tensor, " N"]:
        """Return the places of a level's best scores."""
        flat = scores.flatten()
        above = torch.where(flat > self.choice.score_threshold)[0]
        return above[flat[above].topk(min(self.choice.candidates, len(above))).indices]


class FcosCriterion(nn.Module):
    """Focal loss of all points, GIoU and centreness of those inside an object, over the number of these (section 3.2).

    How many boxes there are does not count.
    """

    def __init__(self, *, centre_radius: float) -> None:
        super().__init__()
        self.centre_radius = centre_radius

    def forward(self, output: FcosOutput, targets: Targets, *, num_boxes: float) -> LossReport:
        """Return the sum of the losses, and each of them."""
        boxes_xyxy = cxcywh_to_xyxy(targets.boxes_cxcywh) * output.sizes_wh.repeat(1, 2)[:, None]
        chosen = torch.stack(
            [
                assigned(output.points, each[:count], centre_radius=self.centre_radius)
                for each, count in zip(boxes_xyxy, targets.counts, strict=True)
            ]
        )
        image, point = torch.where(chosen >= 0)
        target = chosen[image, point]
        classes = torch.zeros_like(output.logits)
        classes[image, point, targets.labels[image, target]] = 1
        true_xyxy = boxes_xyxy[image, target]
        centreness = true_centreness(output.points.xy[point], true_xyxy)
        count = max(len(image), 1)
        terms = {
            "classification": sigmoid_focal_loss(output.logits, classes, reduction="sum"),
            "giou": generalized_box_iou_loss(output.boxes_xyxy[image, point], true_xyxy, reduction="sum"),
            "centreness": F.binary_cross_entropy_with_logits(
                output.centreness[image, point], centreness, reduction="sum"
            ),
        }
        means = {f"loss_{name}": term / count for name, term in terms.items()}
        loss = torch.stack(list(means.values())).sum()
        return {"loss": loss, **{name: mean.detach() for name, mean in means.items()}}


TORCHVISION = TorchvisionModel(
    builder="fcos_resnet50_fpn",
    mark="head.regression_head.bbox_ctrness.weight",
    class_head="head.classification_head.cls_logits.weight",
    rest_rows=0,
    first_label=0,
    names=((r"^pyramid\.backbone\.", "backbone."), (r"^pyramid\.fpn\.", "backbone.fpn.")),
    arranged=dict,
    settings={"grid": "torchvision"},
)
