"""TSP-FCOS (Sun et al., "Rethinking Transformer-based Set Prediction for Object Detection", ICCV 2021).

FCOS without its last step and with two more. A classifier on every cell of the pyramid chooses a few hundred points of
interest, an encoder lets these look at one another, and each of them predicts classes, a box and how central it is.
An object is learned by the best so far of its points: of those that FCOS assigns to it, not of all as in DETR.

Numerics are the authors'. Three things differ: what the losses are divided by is counted in each process, not averaged
over all; without any object, the class loss has no targets (theirs then has every class at one wrong point); and empty
boxes are dropped before the best are counted, not afterwards.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from condetr.backbones.registry import BackboneConfig
from condetr.backbones.resnet import ResNetConfig
from condetr.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from condetr.config import settings
from condetr.detectors.choice import seen_without_overlap
from condetr.detectors.detector import (
    Detector,
    DetectorSettings,
    Dropout,
    EncoderLayers,
    Heads,
    Width,
    require_divisible,
)
from condetr.detectors.points import Points, assigned, boxes_around, distances_to_sides, points_of, true_centreness
from condetr.detectors.published import Detectron2Model
from condetr.detectors.tsp_family import ENCODER_NAMES, build_encoder, cheapest, init_normal, kept_ranks, read_encoder
from condetr.errors import InputError
from condetr.layers.encoder import NormFirstEncoder
from condetr.layers.heads import PRIOR_PROBABILITY, rows_of
from condetr.layers.positions import cell_places, point_embedding
from condetr.layers.pyramid import Maps, Pyramid, image_sizes
from condetr.losses.criterion import LossReport
from condetr.shapes import Found, Prediction, Targets

GROUPS = 32
"""Of channels that the towers normalise together; of two channels at least, so that a single cell has a variance."""
OTHERS_WEIGHT = 0.1
"""Of the class loss of points that could learn an object which a better one learns."""


@settings
class TspFcosConfig(DetectorSettings):
    """Settings of TSP-FCOS; the defaults are the paper's with ResNet-50."""

    kind: Literal["tsp_fcos"] = "tsp_fcos"
    backbone: BackboneConfig = ResNetConfig()
    levels: Annotated[int, Field(ge=1, le=8)] = 3
    """How many of the backbone's last maps the pyramid stands on; two coarser ones follow."""
    dim: Width = 256
    convolutions: Annotated[int, Field(ge=0, le=16)] = 4
    """In each of the two towers."""
    hidden_dim: Width = 512
    """Width of the encoder."""
    num_heads: Heads = 8
    feedforward_dim: Width = 2048
    encoder_layers: EncoderLayers = 6
    dropout: Dropout = 0.1
    proposals: Annotated[int, Field(ge=1, le=10_000)] = 700
    """Points of interest of an image."""
    dropped: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """The largest share of them that is left out in a training step; the share is drawn, too."""
    centre_radius: Annotated[float, Field(gt=0)] = 1.5
    """How far from an object's centre the points lie that learn it, in strides."""
    candidates: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """How many pairs of a point and a class are considered on each level."""
    most_overlap: Annotated[float, Field(gt=0, le=1)] = 0.6
    """IoU from which the worse of two objects of a class is dropped."""

    def build(self, *, num_classes: int, pretrained: bool = True) -> "TspFcos":
        """Build the detector; without `pretrained` the backbone's weights are neither read nor downloaded."""
        if self.dim % GROUPS:
            raise InputError(f"detector.dim must be a multiple of {GROUPS}, got {self.dim}")
        require_divisible(self.hidden_dim, num_heads=self.num_heads, name="hidden_dim")
        backbone = self.backbone.build(pretrained=pretrained, levels=self.levels)
        return TspFcos(
            Pyramid(backbone, dim=self.dim, top="normed_convolutions"),
            encoder=build_encoder(
                self.hidden_dim,
                num_layers=self.encoder_layers,
                num_heads=self.num_heads,
                feedforward_dim=self.feedforward_dim,
                dropout=self.dropout,
            ),
            dim=self.dim,
            hidden_dim=self.hidden_dim,
            convolutions=self.convolutions,
            num_classes=num_classes,
            proposals=self.proposals,
            dropped=self.dropped,
            centre_radius=self.centre_radius,
            candidates=self.candidates,
            most_overlap=self.most_overlap,
        )

    def build_criterion(self) -> "TspFcosCriterion":
        """Build the losses that it learns from."""
        return TspFcosCriterion()


class Cells(NamedTuple):
    """What the towers say of the cells of all levels."""

    features: Float[Tensor, "B S C"]
    """Of both towers."""
    logits: Float[Tensor, "B S K"]
    """Of the classifier that chooses among them."""
    positions_xy: Float[Tensor, "B S 2"]
    """Within the part of each level's map that is no padding."""
    points: Points


class TspFcosOutput(NamedTuple):
    """What all points say of classes, and what the chosen ones predict."""

    cell_logits: Float[Tensor, "B S K"]
    points: Points
    chosen: Int[Tensor, "B Q"]
    """The places of the points of interest."""
    logits: Float[Tensor, "B Q K"]
    distances: Float[Tensor, "B Q 4"]
    """To the left, upper, right and lower side, in strides."""
    centreness: Float[Tensor, "B Q"]
    """As a logit."""
    sizes_wh: Float[Tensor, "B 2"]
    """Of the images without padding, in pixels."""
    assigned: Int[Tensor, "B S"] | None
    """The target of each point, or -1; None where nothing is learned."""

    @property
    def boxes_xyxy(self) -> Float[Tensor, "B Q 4"]:
        """The boxes in pixels."""
        xy, strides = self.points.xy[self.chosen], self.points.strides[self.chosen]
        return boxes_around(xy, strides=strides, distances=self.distances)

    @property
    def final(self) -> Prediction:
        """What is found, before anything is chosen from it."""
        boxes_xyxy = self.boxes_xyxy / self.sizes_wh.repeat(1, 2)[:, None]
        return Prediction(self.logits, xyxy_to_cxcywh(boxes_xyxy))


class TspFcos(Detector):
    """Backbone, pyramid, towers that all levels share, the choice of points, and an encoder of these (section 4.1)."""

    score_function = None

    def __init__(
        self,
        pyramid: Pyramid,
        *,
        encoder: NormFirstEncoder,
        dim: int,
        hidden_dim: int,
        convolutions: int,
        num_classes: int,
        proposals: int,
        dropped: float,
        centre_radius: float,
        candidates: int,
        most_overlap: float,
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.class_tower, self.box_tower = (_tower(dim, convolutions=convolutions) for _ in range(2))
        self.cell_classifier = nn.Conv2d(dim, num_classes, 3, padding=1)
        self.projection = nn.Linear(2 * dim, hidden_dim)
        self.projection_norm = nn.LayerNorm(hidden_dim)
        self.level_embedding = nn.Parameter(torch.ones(len(pyramid.strides), hidden_dim))
        self.encoder = encoder
        self.class_head = nn.Linear(hidden_dim, num_classes)
        self.box_head = nn.Linear(hidden_dim, 4)
        self.scales = nn.Parameter(torch.ones(len(pyramid.strides)))
        self.centreness_head = nn.Linear(hidden_dim, 1)
        self.strides = pyramid.strides
        self.most_objects = proposals
        self.dropped, self.centre_radius = dropped, centre_radius
        self.candidates, self.most_overlap = candidates, most_overlap
        for layer in (self.cell_classifier, self.class_head, self.centreness_head):
            init_normal(layer, std=0.01)
        for layer in (self.cell_classifier, self.class_head):
            nn.init.constant_(layer.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))  # type: ignore[arg-type]

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> TspFcosOutput:
        """Predict from the points of interest; in training, points that learn a target are chosen more readily."""
        sizes_wh = image_sizes(is_padding)
        cells = self.look(images, is_padding)
        learned = None
        if self.training and targets is not None:
            learned = targets_of_points(cells.points, targets, sizes_wh=sizes_wh, centre_radius=self.centre_radius)
        chosen = self.choose(cells.logits.detach(), learned=learned)
        return self.read(cells, chosen, sizes_wh=sizes_wh, learned=learned)

    def look(self, images: Float[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"]) -> Cells:
        """Return what the cells of all levels say, also those on padding, on which no mask is put later either."""
        maps = self.pyramid(images)
        classes, boxes = (tuple(tower(each) for each in maps) for tower in (self.class_tower, self.box_tower))
        masks = level_masks(is_padding, maps, strides=self.strides)
        return Cells(
            features=torch.cat([_in_a_row(classes), _in_a_row(boxes)], dim=-1),
            logits=_in_a_row([self.cell_classifier(each).float() for each in classes]),
            positions_xy=torch.cat([cell_places(mask) for mask in masks], dim=1),
            points=points_of(maps, strides=self.strides, cells_hw=self.pyramid.cells_hw(maps, grid="fixed")),
        )

    def choose(self, logits: Float[Tensor, "B S K"], *, learned: Int[Tensor, "B S"] | None) -> Int[Tensor, "B Q"]:
        """Return the places of the points whose best class is most probable.

        In training, points that learn a target count as if they were half way to certainty, and some of all are left
        out at random: of the same ranks in every image, so that as many are left.
        """
        scores = interest(logits, learned=learned)
        places = scores.topk(min(self.most_objects, scores.shape[1])).indices
        return places if learned is None else places[:, kept_ranks(places.shape[1], dropped=self.dropped)]

    def read(
        self,
        cells: Cells,
        chosen: Int[Tensor, "B Q"],
        *,
        sizes_wh: Float[Tensor, "B 2"],
        learned: Int[Tensor, "B S"] | None = None,
    ) -> TspFcosOutput:
        """Return what the chosen points predict once they have looked at one another."""
        level = cells.points.level_of(chosen)
        positions = point_embedding(_at(cells.positions_xy, chosen), dim=self.class_head.in_features)
        encoded = self.encoder(
            self.projection_norm(self.projection(_at(cells.features, chosen))),
            positions=positions + self.level_embedding[level],
            is_padding=None,
        )
        return TspFcosOutput(
            cell_logits=cells.logits,
            points=cells.points,
            chosen=chosen,
            logits=self.class_head(encoded).float(),
            distances=self.box_head(encoded).relu().float() * self.scales[level][..., None],
            centreness=self.centreness_head(encoded)[..., 0].float(),
            sizes_wh=sizes_wh,
            assigned=learned,
        )

    def found(self, output: TspFcosOutput, *, limit: int) -> list[Found]:
        """Return the best objects that do not overlap too much with better ones of their class.

        Scores are roots of probabilities; how central a point is does not count.
        """
        level = output.points.level_of(output.chosen)
        images = zip(output.logits.sigmoid().sqrt(), output.boxes_xyxy, level, output.sizes_wh, strict=True)
        return [self._chosen(*each, limit=limit) for each in images]

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Restrict the detector to the classes of the given rows of the class head, numbered in their order.

        Points are still chosen by all classes, so that predictions stay the same.
        """
        self.class_head = rows_of(self.class_head, rows)

    def _chosen(
        self,
        scores: Float[Tensor, "Q K"],
        boxes_xyxy: Float[Tensor, "Q 4"],
        level: Int[Tensor, " Q"],
        size_wh: Float[Tensor, "2"],
        *,
        limit: int,
    ) -> Found:
        is_considered = torch.zeros_like(scores, dtype=torch.bool)
        for each in range(len(self.strides)):
            rows = torch.where(level == each)[0]
            places = scores[rows].flatten().topk(min(self.candidates, len(rows) * scores.shape[1])).indices
            is_considered[rows[places // scores.shape[1]], places % scores.shape[1]] = True
        query, label = torch.where(is_considered & (scores > 0))
        return seen_without_overlap(
            boxes_xyxy[query],
            scores[query, label],
            label,
            source=query,
            size_wh=size_wh,
            most_overlap=self.most_overlap,
            limit=limit,
        )


class TspFcosCriterion(nn.Module):
    """Focal losses of all points and of the chosen ones; GIoU and centreness of the chosen ones inside an object.

    How many boxes there are does not count.
    """

    def forward(self, output: TspFcosOutput, targets: Targets, *, num_boxes: float) -> LossReport:
        """Return the sum of the losses, and each of them."""
        assert output.assigned is not None, "nothing is learned outside of training"
        of_chosen = output.assigned.gather(1, output.chosen)
        image, query = torch.where(of_chosen >= 0)
        target = of_chosen[image, query]
        labels = targets.labels[image, target]
        boxes_xyxy = cxcywh_to_xyxy(targets.boxes_cxcywh[image, target]) * output.sizes_wh.repeat(1, 2)[image]
        point = output.chosen[image, query]
        xy, strides = output.points.xy[point], output.points.strides[point]
        centreness = true_centreness(xy, boxes_xyxy)
        true_distances = distances_to_sides(xy, boxes_xyxy) / strides[:, None]
        giou = giou_loss_of_distances(output.distances[image, query], true_distances)
        object_of_each = image * targets.labels.shape[1] + target
        with torch.no_grad():
            costs = point_costs(output.logits[image, query, labels], giou, centreness=centreness)
            learning = cheapest(costs, of=object_of_each)
        terms = {
            "cells": cell_loss(output.cell_logits, output.assigned, targets=targets),
            "classification": class_loss(output.logits, (image, query), labels=labels, learning=learning),
            "giou": (centreness * giou).sum() / centreness.sum().clamp(min=1e-6),
            "centreness": F.binary_cross_entropy_with_logits(
                output.centreness[image, query], centreness, reduction="sum"
            )
            / max(len(image), 1),
        }
        return {
            "loss": torch.stack([*terms.values()]).sum(),
            **{f"loss_{name}": term.detach() for name, term in terms.items()},
        }


def targets_of_points(
    points: Points, targets: Targets, *, sizes_wh: Float[Tensor, "B 2"], centre_radius: float
) -> Int[Tensor, "B S"]:
    """Return the target that each point of each image learns, as in FCOS, or -1."""
    boxes_xyxy = cxcywh_to_xyxy(targets.boxes_cxcywh) * sizes_wh.repeat(1, 2)[:, None]
    images = zip(boxes_xyxy, targets.counts, strict=True)
    return torch.stack(
        [assigned(points, each[:count], centre_radius=centre_radius, with_limits=True) for each, count in images]
    )


def interest(logits: Float[Tensor, "B S K"], *, learned: Int[Tensor, "B S"] | None) -> Float[Tensor, "B S"]:
    """Return the probability of the best class, which is half way to 1 where a target is learned."""
    scores = logits.sigmoid().amax(-1)
    return scores if learned is None else torch.where(learned >= 0, (scores + 1) / 2, scores)


def cell_loss(logits: Float[Tensor, "B S K"], learned: Int[Tensor, "B S"], *, targets: Targets) -> Float[Tensor, ""]:
    """Return the focal loss of all points, over how many learn a target."""
    image, point = torch.where(learned >= 0)
    classes = torch.zeros_like(logits)
    classes[image, point, targets.labels[image, learned[image, point]]] = 1
    loss: Tensor = sigmoid_focal_loss(logits, classes, reduction="sum") / max(len(image), 1)
    return loss


def class_loss(
    logits: Float[Tensor, "B Q K"],
    candidates: tuple[Int[Tensor, " P"], Int[Tensor, " P"]],
    *,
    labels: Int[Tensor, " P"],
    learning: Int[Tensor, " N"],
) -> Float[Tensor, ""]:
    """Return the focal loss of the chosen points, of which the `learning` ones of the candidates have a class.

    The others are no objects; that a candidate is not its object's counts a tenth.
    """
    image, query = candidates
    classes, weights = torch.zeros_like(logits), torch.ones_like(logits)
    weights[image, query, labels] = OTHERS_WEIGHT
    best = image[learning], query[learning], labels[learning]
    classes[best] = weights[best] = 1
    losses: Tensor = sigmoid_focal_loss(logits, classes, reduction="none")
    return (weights * losses).sum() / (2 * (max(len(learning), 1) + OTHERS_WEIGHT * max(len(image), 1)))


def point_costs(
    logits: Float[Tensor, " P"], giou_loss: Float[Tensor, " P"], *, centreness: Float[Tensor, " P"]
) -> Float[Tensor, " P"]:
    """Return what it costs that a point learns its target; `logits` are those of the target's class."""
    return 2 * giou_loss - logits.sigmoid() * (centreness + 1e-6)


def giou_loss_of_distances(a: Float[Tensor, "P 4"], b: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
    """Return 1 - GIoU of boxes around the same points, from the distances to their sides, in strides.

    As in FCOS's code, which adds 1 to both parts of the IoU.
    """
    intersection = _area(torch.minimum(a, b))
    hull = _area(torch.maximum(a, b))
    union = _area(a) + _area(b) - intersection
    return 1 - ((intersection + 1) / (union + 1) - (hull - union) / hull)


def level_masks(
    is_padding: Bool[Tensor, "B H W"], maps: Maps, *, strides: Sequence[int]
) -> Iterator[Bool[Tensor, "B _ _"]]:
    """Yield which cells of each map are padding.

    Masks are halved step by step, down from the image, as their code does: a mask of the batch, before it is padded to
    whole cells, is stretched to the maps of the padded one. So in the largest image no cell is padding.
    """
    mask, stride = is_padding[None].float(), 2
    mask = F.interpolate(mask, size=[-(-side // stride) for side in is_padding.shape[1:]])
    for stride in _doubled_until(strides[0]):
        mask = F.interpolate(mask, size=[strides[0] // stride * side for side in maps[0].shape[-2:]])
    for each in maps:
        mask = F.interpolate(mask, size=each.shape[-2:])
        yield mask[0].bool()


def _area(distances: Float[Tensor, "P 4"]) -> Float[Tensor, " P"]:
    left, top, right, bottom = distances.unbind(-1)
    return (left + right) * (top + bottom)


def _doubled_until(stride: int) -> Iterator[int]:
    """Yield the strides between that of a halved image and another one, both of them left out."""
    between = 4
    while between < stride:
        yield between
        between *= 2


def _tower(dim: int, *, convolutions: int) -> nn.Sequential:
    tower, groups = nn.Sequential(), math.gcd(GROUPS, dim // 2)
    for _ in range(convolutions):
        convolution = nn.Conv2d(dim, dim, 3, padding=1)
        init_normal(convolution, std=0.01)
        tower.extend([convolution, nn.GroupNorm(groups, dim), nn.ReLU()])
    return tower


def _in_a_row(maps: Sequence[Float[Tensor, "B C _ _"]]) -> Float[Tensor, "B S C"]:
    """Return the cells of all maps, row by row."""
    return torch.cat([each.flatten(2) for each in maps], dim=2).transpose(1, 2)


def _at(of_all: Float[Tensor, "B S C"], chosen: Int[Tensor, "B Q"]) -> Float[Tensor, "B Q C"]:
    return of_all.gather(1, chosen[..., None].expand(-1, -1, of_all.shape[-1]))


def _read(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings that a checkpoint shows."""
    convolutions = [name for name in tensors if re.fullmatch(r"fcos_head\.cls_tower\.\d+\.weight", name)]
    return {
        "dim": tensors["fcos_head.cls_logits.weight"].shape[1],
        "convolutions": len(convolutions) // 2,  # each with a norm
        **read_encoder(tensors, module=""),
    }


DETECTRON2 = Detectron2Model(
    title="TSP-FCOS",
    mark="fcos_head.cls_logits.weight",
    class_head="cls_logits.weight",
    rest_rows=0,
    names=(
        (r"^class_tower\.", "fcos_head.cls_tower."),
        (r"^box_tower\.", "fcos_head.bbox_tower."),
        (r"^cell_classifier\.", "fcos_head.cls_logits."),
        (r"^projection\.", "enc_proj."),
        (r"^projection_norm\.", "post_enc_proj_norm."),
        (r"^level_embedding$", "pyramid_position_embedding"),
        (r"^class_head\.", "cls_logits."),
        (r"^box_head\.", "bbox_pred."),
        (r"^centreness_head\.", "ctrness."),
        *ENCODER_NAMES,
    ),
    read=_read,
)
