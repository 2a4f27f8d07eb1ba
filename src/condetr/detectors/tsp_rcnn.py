"""TSP-RCNN (Sun et al., "Rethinking Transformer-based Set Prediction for Object Detection", ICCV 2021).

Faster R-CNN whose proposed regions look at one another before they predict. What is pooled from a region and where it
is enter an encoder, whose results are classified and moved as before. An object is learned by the best so far of the
regions that overlap it enough, the others are background, and so almost nothing is found twice.

Numerics are the authors', but for two things: sides of proposals below a thousandth of a pixel are dropped, as in
torchvision, not only empty ones; and empty boxes are dropped before the best objects are counted, not afterwards.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou, generalized_box_iou_loss

from condetr.backbones.registry import BackboneConfig
from condetr.backbones.resnet import ResNetConfig
from condetr.boxes import area, cxcywh_to_xyxy, xyxy_to_cxcywh
from condetr.config import settings
from condetr.detectors.choice import clipped, without_overlap
from condetr.detectors.detector import Detector, DetectorSettings, Dropout, EncoderLayers, Heads, Width
from condetr.detectors.published import Detectron2Model
from condetr.detectors.regions import (
    POOLED,
    Anchors,
    Size,
    TorchvisionTarget,
    moved,
    moves_to,
    pool,
    propose,
    relative,
    sizes_without_padding,
    targets_in_pixels,
)
from condetr.detectors.tsp_family import ENCODER_NAMES, build_encoder, cheapest, init_normal, kept_ranks, read_encoder
from condetr.errors import InputError
from condetr.layers.encoder import NormFirstEncoder
from condetr.layers.heads import ClassesAndNoObject, rows_of, xavier_init
from condetr.layers.mlp import MLP
from condetr.layers.positions import sine_embedding
from condetr.layers.pyramid import LevelNorm, Maps, Pyramid
from condetr.losses.criterion import LossReport
from condetr.shapes import Found, Prediction, Targets

ASPECTS = (0.5, 1.0, 2.0)
"""Height over width of anchors."""
SIZES_OF_LEVEL = 3
"""Sizes of anchors on a level, in equal ratios up to the next one."""
MOVE_SCALES = (10.0, 10.0, 5.0, 5.0)
"""What a region's moves are learned in multiples of."""
LEAST_OVERLAP = 0.5
"""IoU with an object from which a region may learn it."""
MOST_FOREGROUND = 0.25
"""Share of the drawn regions that may learn objects."""
BACKGROUND_WEIGHT = 0.1
"""Of a region that learns nothing, in the class loss."""


@settings
class TspRcnnConfig(DetectorSettings):
    """Settings of TSP-RCNN; the defaults are the paper's with ResNet-50."""

    kind: Literal["tsp_rcnn"] = "tsp_rcnn"
    backbone: BackboneConfig = ResNetConfig()
    levels: Annotated[int, Field(ge=1, le=8)] = 4
    """How many of the backbone's last maps the pyramid stands on; two coarser ones follow. Regions are proposed on all
    but the finest, and pooled from all but those two."""
    dim: Width = 256
    hidden_dim: Width = 512
    """Width of the encoder."""
    num_heads: Heads = 8
    feedforward_dim: Width = 2048
    encoder_layers: EncoderLayers = 6
    dropout: Dropout = 0.1
    anchor_strides: Annotated[float, Field(gt=0, le=64)] = 4.0
    """The side of the smallest square anchor, in strides of its level."""
    candidates: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """How many of each level's best regions are considered."""
    training_candidates: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """The same in training."""
    proposals: Annotated[int, Field(ge=1, le=10_000)] = 700
    """Regions of an image that are proposed."""
    sampled_regions: Annotated[int, Field(ge=1, le=10_000)] = 700
    """The most of them that are read in training; a quarter of these may learn objects."""
    dropped: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """The largest share of an image's regions that is left out in a training step; the share is drawn, too."""
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """What a class's probability must exceed."""
    most_overlap: Annotated[float, Field(gt=0, le=1)] = 0.7
    """IoU from which the worse of two objects of a class is dropped."""

    def build(self, *, num_classes: int, pretrained: bool = True) -> "TspRcnn":
        """Build the detector; without `pretrained` the backbone's weights are neither read nor downloaded."""
        if self.hidden_dim % self.num_heads or self.hidden_dim % 16:
            raise InputError(
                f"detector.hidden_dim must be a multiple of 16 and of detector.num_heads, got {self.hidden_dim} and "
                f"{self.num_heads}"
            )
        backbone = self.backbone.build(pretrained=pretrained, levels=self.levels)
        pyramid = Pyramid(backbone, dim=self.dim, top="normed_convolutions")
        proposing = pyramid.strides[1:]
        return TspRcnn(
            pyramid,
            rpn=NormedProposals(
                Anchors([_anchor_shapes(self.anchor_strides * stride) for stride in proposing], is_saved=True),
                ProposalHead(self.dim, num_anchors=SIZES_OF_LEVEL * len(ASPECTS), levels=len(proposing)),
                fg_iou_thresh=0.7,
                bg_iou_thresh=0.3,
                batch_size_per_image=256,
                positive_fraction=0.5,
                pre_nms_top_n={"training": self.training_candidates, "testing": self.candidates},
                post_nms_top_n={"training": self.proposals, "testing": self.proposals},
                nms_thresh=0.7,
            ),
            reader=RegionReader(
                self.dim * POOLED**2,
                encoder=build_encoder(
                    self.hidden_dim,
                    num_layers=self.encoder_layers,
                    num_heads=self.num_heads,
                    feedforward_dim=self.feedforward_dim,
                    dropout=self.dropout,
                ),
                hidden_dim=self.hidden_dim,
            ),
            predictor=RegionPredictor(self.hidden_dim, num_classes=num_classes),
            proposals=self.proposals,
            sampled_regions=self.sampled_regions,
            dropped=self.dropped,
            score_threshold=self.score_threshold,
            most_overlap=self.most_overlap,
        )

    def build_criterion(self) -> "TspRcnnCriterion":
        """Build the losses that it learns from."""
        return TspRcnnCriterion()


class Drawn(NamedTuple):
    """The regions that are read in a training step, of one image or of all images one after the other."""

    regions_xyxy: Float[Tensor, "R 4"]
    objects: Int[Tensor, " R"]
    """Which object each one overlaps enough, of its image's or of all images', or -1."""
    labels: Int[Tensor, " R"]
    """Of this object; meaningless without one, as its box is."""
    boxes_xyxy: Float[Tensor, "R 4"]
    """Of this object, in pixels."""


class TspRcnnOutput(NamedTuple):
    """What the regions of all images say, one image after the other."""

    logits: Float[Tensor, "R C"]
    """Of the classes, and of the background, which is the last."""
    moves: Float[Tensor, "R K 4"]
    """Of the region's centre and size by each class, in units of the sides and of logarithms."""
    regions_xyxy: tuple[Float[Tensor, "_ 4"], ...]
    """Of each image, in pixels."""
    sizes_hw: tuple[Size, ...]
    """Of the images without padding."""
    drawn: Drawn | None
    """What the regions learn; None where nothing is learned."""
    of_anchors: tuple[Float[Tensor, ""], ...]
    """The losses of the anchors that were drawn: that they hold objects, and where these are."""

    @property
    def final(self) -> Prediction:
        """What is found, before anything is chosen from it: the classes, background last, and where the regions are."""
        boxes_cxcywh = [relative(*each) for each in zip(self.regions_xyxy, self.sizes_hw, strict=True)]
        return Prediction(self.logits, torch.cat(boxes_cxcywh))


class TspRcnn(Detector):
    """Backbone, pyramid, proposals, and an encoder of what is pooled from them (section 4.1)."""

    score_function = None

    def __init__(
        self,
        pyramid: Pyramid,
        *,
        rpn: "NormedProposals",
        reader: "RegionReader",
        predictor: "RegionPredictor",
        proposals: int,
        sampled_regions: int,
        dropped: float,
        score_threshold: float,
        most_overlap: float,
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.rpn = rpn
        self.reader = reader
        self.predictor = predictor
        self.strides = pyramid.strides
        self.most_objects = proposals
        self.sampled_regions, self.dropped = sampled_regions, dropped
        self.score_threshold, self.most_overlap = score_threshold, most_overlap

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> TspRcnnOutput:
        """Predict from the best regions, or from some that are drawn by their targets where these are to be learned."""
        maps = self.pyramid(images)
        sizes_hw = sizes_without_padding(is_padding)
        learned = None
        if self.training and targets is not None:
            learned = targets_in_pixels(targets, sizes_hw, first_label=0)
        cells_hw = self.pyramid.cells_hw(maps, grid="fixed")
        regions_xyxy, of_anchors = propose(
            self.rpn, maps[1:], cells_hw=cells_hw[1:], sizes_hw=sizes_hw, learned=learned, most=self.most_objects
        )
        drawn = None
        if learned is not None:
            of_each = [self.draw(*each) for each in zip(regions_xyxy, learned, strict=True)]
            drawn = together(of_each, num_objects=[len(each["boxes"]) for each in learned])
            regions_xyxy = [each.regions_xyxy for each in of_each]
        logits, moves = self.read(maps, regions_xyxy, sizes_hw)
        return TspRcnnOutput(logits, moves, tuple(regions_xyxy), sizes_hw, drawn, of_anchors)

    def draw(self, regions_xyxy: Float[Tensor, "R 4"], learned: TorchvisionTarget) -> Drawn:
        """Draw the regions of an image to learn from: a quarter at most with objects, then a random part of all.

        If no region overlaps an object enough, slightly moved objects are added.
        """
        matched = overlapped(regions_xyxy, learned["boxes"])
        if len(learned["boxes"]) and not (matched >= 0).any():
            uniform = torch.rand(len(learned["boxes"]), 4, device="cpu").to(regions_xyxy.device)
            regions_xyxy = torch.cat([regions_xyxy, jittered(learned["boxes"], uniform)])
            matched = overlapped(regions_xyxy, learned["boxes"])
        foreground = _shuffled(torch.where(matched >= 0)[0])[: int(MOST_FOREGROUND * self.sampled_regions)]
        background = _shuffled(torch.where(matched < 0)[0])[: self.sampled_regions - len(foreground)]
        of_all = torch.cat([foreground, background])
        kept = of_all[kept_ranks(len(of_all), dropped=self.dropped).to(of_all.device)]
        return drawn_of(regions_xyxy[kept], matched[kept], learned)

    def read(
        self, maps: Maps, regions_xyxy: Sequence[Float[Tensor, "_ 4"]], sizes_hw: Sequence[Size]
    ) -> tuple[Float[Tensor, "R C"], Float[Tensor, "R K 4"]]:
        """Return what the regions of all images say once those of an image have looked at one another."""
        levels = len(self.pyramid.backbone.strides)
        pooled = pool(maps[:levels], regions_xyxy, strides=self.strides[:levels]).flatten(1)
        codes = [box_code(*each, dim=self.reader.dim) for each in zip(regions_xyxy, sizes_hw, strict=True)]
        logits, moves = self.predictor(self.reader(pooled, codes))
        return logits.float(), moves.float() / moves.new_tensor(MOVE_SCALES, dtype=torch.float32)

    def found(self, output: TspRcnnOutput, *, limit: int) -> list[Found]:
        """Return the best objects that do not overlap too much with better ones of their class."""
        counts = [len(each) for each in output.regions_xyxy]
        boxes_xyxy = moved(torch.cat(output.regions_xyxy)[:, None], output.moves)
        scores = output.logits.softmax(-1)[:, :-1]
        images = zip(boxes_xyxy.split(counts), scores.split(counts), output.sizes_hw, strict=True)
        return [self._chosen(*each, limit=limit) for each in images]

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Restrict the detector to the classes of the given rows of the class head, numbered in their order."""
        self.predictor.keep_classes(rows)

    def _chosen(
        self, boxes_xyxy: Float[Tensor, "R K 4"], scores: Float[Tensor, "R K"], size_hw: Size, *, limit: int
    ) -> Found:
        size_wh = scores.new_tensor(size_hw[::-1])
        boxes_xyxy = clipped(boxes_xyxy, size_wh=size_wh)
        region, label = torch.where((scores > self.score_threshold) & (area(boxes_xyxy) > 0))
        return without_overlap(
            boxes_xyxy[region, label],
            scores[region, label],
            label,
            source=region,
            size_wh=size_wh,
            most_overlap=self.most_overlap,
            limit=limit,
        )


class ProposalHead(nn.Module):
    """Says of the anchors of all levels whether they hold objects, and how these are moved from there."""

    def __init__(self, dim: int, *, num_anchors: int, levels: int) -> None:
        super().__init__()
        self.object_tower, self.move_tower = (LevelTower(dim, convolutions=2, levels=levels) for _ in range(2))
        self.objectness = nn.Conv2d(dim, num_anchors, 1)
        self.moves = nn.Conv2d(dim, 4 * num_anchors, 1)
        for layer in (self.objectness, self.moves):
            init_normal(layer, std=0.01)

    def forward(self, maps: list[Float[Tensor, "B D _ _"]]) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits and moves of each level, those of a cell's anchors in the channels."""
        objectness = [self.objectness(self.object_tower(each, level)) for level, each in enumerate(maps)]
        return objectness, [self.moves(self.move_tower(each, level)) for level, each in enumerate(maps)]


class LevelTower(nn.Module):
    """Convolutions that all levels share, with norms of each level's own."""

    def __init__(self, dim: int, *, convolutions: int, levels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in range(convolutions))
        self.norms = nn.ModuleList(nn.ModuleList(LevelNorm(dim) for _ in range(convolutions)) for _ in range(levels))

    def forward(self, x: Float[Tensor, "B D H W"], level: int) -> Float[Tensor, "B D H W"]:
        """Convolve, normalise and rectify, again and again."""
        for convolution, norm in zip(self.convolutions, self.norms[level].children(), strict=True):
            x = norm(convolution(x)).relu()
        return x


class NormedProposals(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's proposals, learned by losses that are divided by how many anchors could be drawn."""

    def compute_loss(
        self,
        objectness: Float[Tensor, "N 1"],
        pred_bbox_deltas: Float[Tensor, "N 4"],
        labels: list[Float[Tensor, " A"]],
        regression_targets: tuple[Float[Tensor, "A 4"], ...],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the losses of anchors that are drawn: cross-entropy, and twice the L1 distance of the moves."""
        positive, negative = (torch.where(torch.cat(each))[0] for each in self.fg_bg_sampler(labels))
        drawn, count = torch.cat([positive, negative]), len(labels) * self.fg_bg_sampler.batch_size_per_image
        is_object = torch.cat(labels)[drawn]
        holds = F.binary_cross_entropy_with_logits(objectness.flatten()[drawn], is_object, reduction="sum")
        distance = F.l1_loss(pred_bbox_deltas[positive], torch.cat(regression_targets)[positive], reduction="sum")
        return holds / count, 2 * distance / count


class RegionReader(nn.Module):
    """Encodes what is pooled from an image's regions together, and where these are."""

    def __init__(self, pooled_dim: int, *, encoder: NormFirstEncoder, hidden_dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(pooled_dim, hidden_dim)
        self.code_projection = nn.Linear(hidden_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.encoder = encoder
        self.dim = hidden_dim
        xavier_init(self)

    def forward(self, pooled: Float[Tensor, "R P"], codes: Sequence[Float[Tensor, "_ D"]]) -> Float[Tensor, "R D"]:
        """Return an embedding of each region; those of an image see one another, and no others."""
        counts = [len(each) for each in codes]
        x = self.norm(self.projection(pooled) + self.code_projection(torch.cat(list(codes))))
        places = torch.arange(max(counts), device=pooled.device)
        is_region = places < torch.tensor(counts, device=pooled.device)[:, None]
        encoded = self.encoder(
            pad_sequence(x.split(counts), batch_first=True),
            positions=pad_sequence(list(codes), batch_first=True),
            # An image without regions would have nothing to look at, which makes NaN.
            is_padding=~is_region & is_region.any(1, keepdim=True),
        )
        return torch.cat([each[:count] for each, count in zip(encoded, counts, strict=True)])


class RegionPredictor(nn.Module):
    """From a region's embedding to its classes, background last, and for each class to how the region moves."""

    def __init__(self, dim: int, *, num_classes: int) -> None:
        super().__init__()
        self.class_head: nn.Module = nn.Linear(dim, num_classes + 1)
        self.box_head = MLP(dim, dim, dim, 4 * num_classes)
        init_normal(self.class_head, std=0.01)
        init_normal(cast(nn.Linear, self.box_head.layers[-1]), std=0.001)

    def forward(self, embeddings: Float[Tensor, "R D"]) -> tuple[Float[Tensor, "R C"], Float[Tensor, "R K 4"]]:
        """Return logits and moves."""
        moves: Tensor = self.box_head(embeddings)
        return self.class_head(embeddings), moves.view(len(moves), moves.shape[1] // 4, 4)

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Reduce the classes to the given rows; the probability of the others goes to the background."""
        every, last = self.class_head, self.box_head.layers[-1]
        assert isinstance(every, nn.Linear)
        assert isinstance(last, nn.Linear)
        self.class_head = ClassesAndNoObject(every, rows)
        self.box_head.layers[-1] = rows_of(last, [4 * row + side for row in rows for side in range(4)])


class TspRcnnCriterion(nn.Module):
    """The losses of anchors, of the classes of regions, and of the moves of those that overlap an object.

    How many boxes there are does not count.
    """

    def forward(self, output: TspRcnnOutput, targets: Targets, *, num_boxes: float) -> LossReport:
        """Return the sum of the losses, and each of them."""
        assert output.drawn is not None, "nothing is learned outside of training"
        drawn = output.drawn
        region = torch.where(drawn.objects >= 0)[0]
        labels, boxes_xyxy, here_xyxy = drawn.labels[region], drawn.boxes_xyxy[region], drawn.regions_xyxy[region]
        moves = output.moves[region, labels]
        learning = learning_regions(drawn, logits=output.logits, moves=output.moves)
        giou: Tensor = generalized_box_iou_loss(moved(here_xyxy, moves), boxes_xyxy, reduction="sum")
        distance = ((moves - moves_to(here_xyxy, boxes_xyxy)) * moves.new_tensor(MOVE_SCALES)).abs()
        objectness, anchor_boxes = output.of_anchors
        terms = {
            "objectness": objectness,
            "anchor_boxes": anchor_boxes,
            "classification": class_loss(output.logits, learning, labels=drawn.labels[learning]),
            "boxes": (distance.sum() + 2 * giou) / max(len(output.logits), 1),
        }
        return {
            "loss": torch.stack([*terms.values()]).sum(),
            **{f"loss_{name}": term.detach() for name, term in terms.items()},
        }


@torch.no_grad()
def learning_regions(drawn: Drawn, *, logits: Float[Tensor, "R C"], moves: Float[Tensor, "R K 4"]) -> Int[Tensor, " N"]:
    """Return, for each object, which of the regions that overlap it learns it: the best by class and place."""
    region = torch.where(drawn.objects >= 0)[0]
    labels = drawn.labels[region]
    found_xyxy = moved(drawn.regions_xyxy[region], moves[region, labels])
    giou: Tensor = generalized_box_iou_loss(found_xyxy, drawn.boxes_xyxy[region], reduction="none")
    costs = 2 * giou - logits[region].softmax(-1).gather(1, labels[:, None])[:, 0]
    return region[cheapest(costs, of=drawn.objects[region])]


def class_loss(
    logits: Float[Tensor, "R C"], learning: Int[Tensor, " N"], *, labels: Int[Tensor, " N"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy by weight, where some regions have a class and the others are background.

    The surer a region of background is, the less it counts, as in the focal loss. Without any object nothing is
    learned, about the background neither.
    """
    background = logits.shape[-1] - 1
    classes = torch.full_like(logits[:, 0], background, dtype=torch.int64)
    weights = torch.full_like(logits[:, 0], BACKGROUND_WEIGHT)
    doubt = 2 * (1 - logits.detach().softmax(-1)[:, -1]) ** 2
    classes[learning], weights[learning], doubt[learning] = labels, 1.0, 1.0
    losses = F.cross_entropy(logits, classes, reduction="none") * doubt * weights
    return losses.sum() / (weights.sum() + 1e-6) * bool(len(learning))


def overlapped(regions_xyxy: Float[Tensor, "R 4"], boxes_xyxy: Float[Tensor, "T 4"]) -> Int[Tensor, " R"]:
    """Return the object that each region overlaps most, or -1 where it does not overlap it enough."""
    if not len(boxes_xyxy):
        return torch.full_like(regions_xyxy[:, 0], -1, dtype=torch.int64)
    overlap, matched = box_iou(boxes_xyxy, regions_xyxy).max(dim=0)
    return torch.where(overlap >= LEAST_OVERLAP, matched, -1)


def jittered(boxes_xyxy: Float[Tensor, "T 4"], uniform: Float[Tensor, "T 4"]) -> Float[Tensor, "T 4"]:
    """Move centres by up to a tenth of the sides, and change sides by factors from 0.8 to its inverse."""
    centre, size = xyxy_to_cxcywh(boxes_xyxy).split(2, dim=-1)
    shift, growth = uniform.split(2, dim=-1)
    return cxcywh_to_xyxy(torch.cat([centre + size * (shift - 0.5) * 0.2, size * 0.8 ** (2 * growth - 1)], dim=-1))


def drawn_of(regions_xyxy: Float[Tensor, "R 4"], matched: Int[Tensor, " R"], learned: TorchvisionTarget) -> Drawn:
    """Return the regions of an image with what they learn."""
    if not len(learned["boxes"]):
        return Drawn(regions_xyxy, matched, torch.zeros_like(matched), torch.zeros_like(regions_xyxy))
    place = matched.clamp(min=0)
    return Drawn(regions_xyxy, matched, learned["labels"][place], learned["boxes"][place])


def together(images: Sequence[Drawn], *, num_objects: Sequence[int]) -> Drawn:
    """Return the regions of all images, their objects numbered through."""
    firsts = [0, *accumulate(num_objects)][:-1]
    numbered = [
        each._replace(objects=torch.where(each.objects >= 0, each.objects + first, -1))
        for each, first in zip(images, firsts, strict=True)
    ]
    return Drawn(*map(torch.cat, zip(*numbered, strict=True)))


def box_code(boxes_xyxy: Float[Tensor, "R 4"], size_hw: Size, *, dim: int) -> Float[Tensor, "R D"]:
    """Embed centre, width, height and corners, relative to the image."""
    height, width = size_hw
    numbers = torch.cat([xyxy_to_cxcywh(boxes_xyxy), boxes_xyxy], dim=-1)
    angles = 2 * math.pi * numbers / numbers.new_tensor([width, height] * 4)
    return sine_embedding(angles, dim=dim // 8).flatten(1)


def _anchor_shapes(side: float) -> Float[Tensor, "N 4"]:
    """Return boxes around the origin: three areas of three aspects each."""
    sides = side * 2 ** (torch.arange(SIZES_OF_LEVEL) / SIZES_OF_LEVEL)
    width = (sides[:, None] ** 2 / torch.tensor(ASPECTS)).sqrt()
    half_wh = torch.stack([width, torch.tensor(ASPECTS) * width], dim=-1).flatten(0, 1) / 2
    return torch.cat([-half_wh, half_wh], dim=-1)


def _shuffled(values: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    return values[torch.randperm(len(values), device="cpu").to(values.device)]


def _read(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings that a checkpoint shows."""
    return {
        "dim": tensors["proposal_generator.rpn_head.objectness_logits.weight"].shape[1],
        **read_encoder(tensors, module="roi_heads.box_head."),
    }


DETECTRON2 = Detectron2Model(
    title="TSP-RCNN",
    mark="roi_heads.box_head.dec_pos_embed_proj.weight",
    class_head="roi_heads.box_predictor.cls_score.weight",
    rest_rows=1,
    names=(
        (r"^rpn\.anchor_generator\.shapes", "proposal_generator.anchor_generator.cell_anchors."),
        (r"^rpn\.head\.objectness\.", "proposal_generator.rpn_head.objectness_logits."),
        (r"^rpn\.head\.moves\.", "proposal_generator.rpn_head.anchor_deltas."),
        (r"^rpn\.head\.object_tower\.convolutions\.(\d+)\.", r"proposal_generator.rpn_head.obj_conv.\1.conv."),
        (r"^rpn\.head\.object_tower\.norms\.", "proposal_generator.rpn_head.obj_bn_list."),
        (r"^rpn\.head\.move_tower\.convolutions\.(\d+)\.", r"proposal_generator.rpn_head.anchor_conv.\1.conv."),
        (r"^rpn\.head\.move_tower\.norms\.", "proposal_generator.rpn_head.anchor_bn_list."),
        (r"^reader\.projection\.", "roi_heads.box_head.input_proj."),
        (r"^reader\.code_projection\.", "roi_heads.box_head.dec_pos_embed_proj."),
        (r"^reader\.norm\.", "roi_heads.box_head.post_input_proj_norm."),
        (r"^reader\.encoder\.", "roi_heads.box_head.encoder."),
        (r"^predictor\.class_head\.", "roi_heads.box_predictor.cls_score."),
        (r"^predictor\.box_head\.", "roi_heads.box_predictor.bbox_pred."),
        *ENCODER_NAMES,
    ),
    read=_read,
)
