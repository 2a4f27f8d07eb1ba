"""Faster R-CNN (Ren et al., NeurIPS 2015) on a feature pyramid (Lin et al., CVPR 2017), from torchvision's parts.

A region proposal network says which of many boxes of fixed shapes, the anchors, hold an object. Of each of its best
regions the features are pooled, from the level that suits the region's size, and classified against the background,
and every class moves the region to where its object is. Where objects overlap too much, the better one is kept.

Networks, sampling, losses and choice are torchvision's, in these respects unlike detectron2's, whose results table 2 of
Conditional DETR gives: anchors have rounded corners, box losses are smooth L1 (beta 1/9) and regions are not aligned to
half a pixel. By default one thing differs from torchvision, and `grid="torchvision"` is equal in it: anchors are as far
apart as the map's stride says, whatever the size of the image. Background is the last class here and has no box.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from condetr.backbones.registry import BackboneConfig
from condetr.backbones.resnet import ResNetConfig
from condetr.config import settings
from condetr.detectors.choice import clipped, without_overlap
from condetr.detectors.detector import Detector, DetectorSettings, Width
from condetr.detectors.published import TorchvisionModel
from condetr.detectors.regions import POOLED, Anchors, Size, propose, relative, sizes_without_padding, targets_in_pixels
from condetr.layers.heads import ClassesAndNoObject, rows_of
from condetr.layers.pyramid import Grid, Maps, Pyramid
from condetr.losses.criterion import LossReport
from condetr.shapes import Found, Prediction, Targets

ASPECTS = (0.5, 1.0, 2.0)
"""Height over width of a cell's anchors."""
SMALLEST = 1e-2
"""Pixels; an object with a shorter side is not found."""


@settings
class FasterRcnnConfig(DetectorSettings):
    """Settings of Faster R-CNN; the defaults are torchvision's with ResNet-50."""

    kind: Literal["faster_rcnn"] = "faster_rcnn"
    backbone: BackboneConfig = ResNetConfig()
    levels: Annotated[int, Field(ge=1, le=8)] = 4
    """How many of the backbone's last maps the pyramid stands on; a coarser one follows."""
    dim: Width = 256
    hidden_dim: Width = 1024
    """Width of the two layers that read a region."""
    grid: Grid = "fixed"
    anchor_strides: Annotated[float, Field(gt=0, le=64)] = 8.0
    """The side of a square anchor, in strides of its level; objects far smaller than the smallest are not proposed."""
    proposals: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Regions of an image that are looked at; twice as many are proposed in training."""
    sampled_regions: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Of an image, in training; a quarter of them may hold objects."""
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """What a class's probability must exceed."""
    most_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """IoU from which the worse of two objects of a class is dropped."""

    def build(self, *, num_classes: int, pretrained: bool = True) -> "FasterRcnn":
        """Build the detector; without `pretrained` the backbone's weights are neither read nor downloaded."""
        backbone = self.backbone.build(pretrained=pretrained, levels=self.levels)
        pyramid = Pyramid(backbone, dim=self.dim, top="pool")
        return FasterRcnn(
            pyramid,
            rpn=RegionProposalNetwork(
                Anchors([_anchor_shapes(self.anchor_strides * stride) for stride in pyramid.strides], is_saved=False),
                RPNHead(self.dim, len(ASPECTS)),
                fg_iou_thresh=0.7,
                bg_iou_thresh=0.3,
                batch_size_per_image=256,
                positive_fraction=0.5,
                pre_nms_top_n={"training": 2 * self.proposals, "testing": self.proposals},
                post_nms_top_n={"training": 2 * self.proposals, "testing": self.proposals},
                nms_thresh=0.7,
            ),
            roi_heads=RoIHeads(
                _pool(backbone.strides),
                TwoMLPHead(self.dim * POOLED**2, self.hidden_dim),
                RegionPredictor(self.hidden_dim, num_classes=num_classes),
                fg_iou_thresh=0.5,
                bg_iou_thresh=0.5,
                batch_size_per_image=self.sampled_regions,
                positive_fraction=0.25,
                bbox_reg_weights=None,
                score_thresh=self.score_threshold,
                nms_thresh=self.most_overlap,
                detections_per_img=self.proposals,
            ),
            grid=self.grid,
        )

    def build_criterion(self) -> "FasterRcnnCriterion":
        """Build the losses that it learns from."""
        return FasterRcnnCriterion()


class RegionLosses(NamedTuple):
    """What is learned in a batch: of the anchors and of the regions that were drawn, each a mean over them."""

    objectness: Float[Tensor, ""]
    anchor_boxes: Float[Tensor, ""]
    classification: Float[Tensor, ""]
    boxes: Float[Tensor, ""]


class FasterRcnnOutput(NamedTuple):
    """What the regions of all images say, one image after the other."""

    logits: Float[Tensor, "R C"]
    """Of the background, which is the first, and of the classes, as torchvision has them."""
    moves: Float[Tensor, "R C4"]
    """Of the region's centre and size, by each of these."""
    regions_xyxy: tuple[Float[Tensor, "_ 4"], ...]
    """Of each image, in pixels."""
    sizes_hw: tuple[tuple[int, int], ...]
    """Of the images without padding."""
    losses: RegionLosses | None
    """None where nothing is learned."""

    @property
    def final(self) -> Prediction:
        """What is found, before anything is chosen from it: the classes, background last, and where the regions are."""
        boxes_cxcywh = [relative(*each) for each in zip(self.regions_xyxy, self.sizes_hw, strict=True)]
        return Prediction(self.logits.roll(-1, dims=1), torch.cat(boxes_cxcywh))


class FasterRcnn(Detector):
    """Backbone, pyramid, proposals and what is made of them."""

    score_function = None

    def __init__(self, pyramid: Pyramid, *, rpn: RegionProposalNetwork, roi_heads: RoIHeads, grid: Grid) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.grid: Grid = grid
        self.strides = pyramid.strides
        self.most_objects: int = roi_heads.detections_per_img

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> FasterRcnnOutput:
        """Predict from the best regions, or from some that are drawn by their targets where these are to be learned.

        Padding is background like any other. The draw is part of the losses, so that they are computed here.
        """
        maps = self.pyramid(images)
        sizes_hw = sizes_without_padding(is_padding)
        learned = None
        if self.training and targets is not None:
            learned = targets_in_pixels(targets, sizes_hw, first_label=1)
        cells_hw = self.pyramid.cells_hw(maps, grid=self.grid)
        regions_xyxy, of_anchors = propose(
            self.rpn, maps, cells_hw=cells_hw, sizes_hw=sizes_hw, learned=learned, most=self.most_objects
        )
        drawn = None
        if learned is not None:
            regions_xyxy, _, *drawn = self.roi_heads.select_training_samples(regions_xyxy, learned)
        logits, moves = self._read(maps, regions_xyxy, sizes_hw)
        losses = None if drawn is None else RegionLosses(*of_anchors, *fastrcnn_loss(logits, moves, *drawn))
        return FasterRcnnOutput(logits, moves, tuple(regions_xyxy), sizes_hw, losses)

    def found(self, output: FasterRcnnOutput, *, limit: int) -> list[Found]:
        """Return the best objects that do not overlap too much with better ones of their class."""
        counts = [len(each) for each in output.regions_xyxy]
        boxes_xyxy: Tensor = self.roi_heads.box_coder.decode(output.moves, list(output.regions_xyxy))
        boxes_xyxy = boxes_xyxy.view(-1, output.logits.shape[1], 4)  # which it leaves out where there are no regions
        scores = output.logits.softmax(-1)
        images = zip(boxes_xyxy.split(counts), scores.split(counts), output.sizes_hw, strict=True)
        return [
            self._chosen(boxes[:, 1:], each[:, 1:], size_hw=size_hw, limit=limit) for boxes, each, size_hw in images
        ]

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Restrict the detector to the classes of the given rows of the class head, numbered in their order."""
        self.roi_heads.box_predictor.keep_classes(rows)

    def _read(
        self, maps: Maps, regions_xyxy: list[Float[Tensor, "_ 4"]], sizes_hw: Sequence[Size]
    ) -> tuple[Float[Tensor, "R C"], Float[Tensor, "R C4"]]:
        """Return what the regions of all images say."""
        named = {str(level): each for level, each in enumerate(maps)}
        if maps[0].is_meta:
            pooled = maps[0].new_empty(sum(map(len, regions_xyxy)), maps[0].shape[1], POOLED, POOLED)
        else:
            pooled = self.roi_heads.box_roi_pool(named, regions_xyxy, sizes_hw)
        logits, moves = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return logits.float(), moves.float()

    def _chosen(
        self, boxes_xyxy: Float[Tensor, "R K 4"], scores: Float[Tensor, "R K"], *, size_hw: Size, limit: int
    ) -> Found:
        size_wh = scores.new_tensor(size_hw[::-1])
        boxes_xyxy = clipped(boxes_xyxy, size_wh=size_wh)
        is_large = ((boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]) >= SMALLEST).all(-1)
        region, label = torch.where((scores > self.roi_heads.score_thresh) & is_large)
        return without_overlap(
            boxes_xyxy[region, label],
            scores[region, label],
            label,
            source=region,
            size_wh=size_wh,
            most_overlap=self.roi_heads.nms_thresh,
            limit=limit,
        )


class RegionPredictor(nn.Module):
    """From a region's embedding to its classes, background last, and for each class to how the region moves."""

    def __init__(self, dim: int, *, num_classes: int) -> None:
        super().__init__()
        self.cls_score: nn.Module = nn.Linear(dim, num_classes + 1)
        self.bbox_pred = nn.Linear(dim, 4 * num_classes)

    def forward(self, embeddings: Float[Tensor, "R D"]) -> tuple[Float[Tensor, "R C"], Float[Tensor, "R C4"]]:
        """Return logits and moves in the order of torchvision's losses: background first, which never moves."""
        logits: Tensor = self.cls_score(embeddings)
        return logits.roll(1, dims=1), F.pad(self.bbox_pred(embeddings), (4, 0))

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Reduce the classes to the given rows; the probability of the others goes to the background."""
        assert isinstance(self.cls_score, nn.Linear)
        self.cls_score = ClassesAndNoObject(self.cls_score, rows)
        self.bbox_pred = rows_of(self.bbox_pred, [4 * row + side for row in rows for side in range(4)])


class FasterRcnnCriterion(nn.Module):
    """The sum of the losses of anchors and regions, each a mean over those that were drawn.

    They come with what a detector in training mode returns. How many boxes there are does not count.
    """

    def forward(self, output: FasterRcnnOutput, targets: Targets, *, num_boxes: float) -> LossReport:
        """Return the sum, and each of the losses."""
        assert output.losses is not None, "nothing is learned outside of training"
        terms = output.losses._asdict()
        return {
            "loss": torch.stack([*terms.values()]).sum(),
            **{f"loss_{name}": term.detach() for name, term in terms.items()},
        }


def _pool(strides: Sequence[int]) -> MultiScaleRoIAlign:
    """Pool on the backbone's levels; a region of 224 x 224 pixels belongs to stride 16 (Lin et al., equation 1)."""
    pool = MultiScaleRoIAlign([str(level) for level in range(len(strides))], output_size=POOLED, sampling_ratio=2)
    # By itself it guesses both from the first image, and from its size without padding.
    pool.scales = [1 / stride for stride in strides]
    pool.map_levels = initLevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])))
    return pool


def _anchor_shapes(side: float) -> Float[Tensor, "3 4"]:
    """Return boxes around the origin of one area and three aspects, their corners whole pixels."""
    height = torch.tensor(ASPECTS).sqrt()
    half_wh = side * torch.stack([1 / height, height], dim=-1) / 2
    return torch.cat([-half_wh, half_wh], dim=-1).round()


def _background_last(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return torchvision's tensors with the background's row last, and without the moves that it never makes."""
    found = dict(tensors)
    for part in ("weight", "bias"):
        scores, moves = (f"roi_heads.box_predictor.{name}.{part}" for name in ("cls_score", "bbox_pred"))
        found |= {scores: tensors[scores].roll(-1, dims=0), moves: tensors[moves][4:]}
    return found


TORCHVISION = TorchvisionModel(
    builder="fasterrcnn_resnet50_fpn",
    mark="roi_heads.box_predictor.cls_score.weight",
    class_head="roi_heads.box_predictor.cls_score.weight",
    rest_rows=1,
    first_label=1,
    names=((r"^pyramid\.backbone\.", "backbone."), (r"^pyramid\.fpn\.", "backbone.fpn.")),
    arranged=_background_last,
    settings={"grid": "torchvision"},
    without_epsilon="fasterrcnn_resnet50_fpn_coco-",
)
