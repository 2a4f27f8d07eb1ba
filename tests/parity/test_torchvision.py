"""Detectors from torchvision's parts beside torchvision's whole models, at the same weights and the same input."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.poolers import initLevelMapper

from condetr.backbones.resnet import ResNetConfig
from condetr.boxes import cxcywh_to_xyxy
from condetr.detectors import faster_rcnn as faster_rcnn_file
from condetr.detectors import fcos as fcos_file
from condetr.detectors.detector import Detector, DetectorSettings
from condetr.detectors.faster_rcnn import FasterRcnnConfig
from condetr.detectors.fcos import FcosConfig
from condetr.detectors.published import TorchvisionModel, original_name
from condetr.shapes import Found, Targets

CLASSES = 3
SIZES_HW = ((150, 190), (128, 256))
"""Of two images in a batch of 150 x 256, which torchvision pads to 160 x 256."""
near = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)


class Prepared(nn.Module):
    """In place of torchvision's transform: images are prepared already."""

    def forward(self, images: Sequence[Tensor], targets: Any = None) -> tuple[ImageList, Any]:  # noqa: ANN401
        (batch,) = images
        padded = nn.functional.pad(batch, (0, -batch.shape[-1] % 32, 0, -batch.shape[-2] % 32))
        return ImageList(padded, list(SIZES_HW)), targets

    def postprocess(self, found: Any, *_: object) -> Any:  # noqa: ANN401
        return found


def prepared_images() -> tuple[Tensor, Tensor]:
    """Return two images, both padded."""
    torch.manual_seed(0)
    is_padding = torch.ones(2, 150, 256, dtype=torch.bool)
    for mask, (height, width) in zip(is_padding, SIZES_HW, strict=True):
        mask[:height, :width] = False
    return torch.randn(2, 3, 150, 256) * ~is_padding[:, None], is_padding


TARGETS = Targets.of(
    [
        (torch.tensor([0, 2, 1]), torch.tensor([[0.5, 0.5, 0.5, 0.6], [0.2, 0.3, 0.1, 0.2], [0.6, 0.5, 0.9, 0.9]])),
        (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)),
    ]
)


def their_targets(*, first_label: int) -> list[dict[str, Tensor]]:
    """Return the targets in pixels and in torchvision's labels."""
    sizes = torch.tensor(SIZES_HW).flip(1).repeat(1, 2)[:, None]
    boxes_xyxy = cxcywh_to_xyxy(TARGETS.boxes_cxcywh) * sizes
    return [
        {"boxes": boxes[:count], "labels": labels[:count] + first_label}
        for boxes, labels, count in zip(boxes_xyxy, TARGETS.labels, TARGETS.counts, strict=True)
    ]


def randomised(model: Any) -> Any:  # noqa: ANN401 - torchvision is untyped
    """Make weights such that something is found everywhere."""
    torch.manual_seed(1)
    for name, tensor in model.state_dict().items():
        if name.endswith(("cls_score.weight", "bbox_pred.weight")):
            tensor.normal_(std=0.02)
        elif name.endswith(("cls_logits.weight", "bbox_reg.weight", "bbox_ctrness.weight")):
            tensor.normal_(std=0.1)
        elif name.endswith("cls_logits.bias"):
            tensor.fill_(-1.0)
        elif "bn" in name or "downsample.1" in name:
            tensor.uniform_(0.5, 1.0)
    return model


def filled(config: DetectorSettings, theirs: nn.Module, *, model: TorchvisionModel) -> Detector:
    """Return our detector with torchvision's weights."""
    detector, state = config.build(num_classes=CLASSES, pretrained=False), model.arranged(theirs.state_dict())
    names = {name: original_name(name, model.names) for name in detector.state_dict()}
    assert set(names.values()) == set(state)
    detector.load_state_dict({name: state[their_name] for name, their_name in names.items()})
    return detector


def assert_same_found(ours: Sequence[Found], theirs: Sequence[dict[str, Tensor]], *, first_label: int) -> None:
    """Compare detections in pixels."""
    for found, expected, (height, width) in zip(ours, theirs, SIZES_HW, strict=True):
        assert len(expected["scores"]) > 5
        near(found.scores, expected["scores"])
        assert (found.labels + first_label).tolist() == expected["labels"].tolist()
        boxes_xyxy = cxcywh_to_xyxy(found.boxes_cxcywh) * torch.tensor([width, height, width, height])
        torch.testing.assert_close(boxes_xyxy, expected["boxes"], atol=1e-3, rtol=1e-5)


class Centres(AnchorGenerator):  # type: ignore[misc]
    """Points in the middle of cells that are as far apart as the map's stride says."""

    def forward(self, images: ImageList, maps: list[Tensor]) -> list[Tensor]:
        strides = [8, 16, 32, 64, 128]
        self.cell_anchors = [torch.tensor([[-stride, -stride, stride, stride]]) / 2 + stride / 2 for stride in strides]
        steps = [[torch.tensor(stride)] * 2 for stride in strides]
        return [torch.cat(self.grid_anchors([each.shape[-2:] for each in maps], steps))] * len(images.image_sizes)


class Pair(NamedTuple):
    """The same detector twice."""

    ours: Detector
    theirs: Any


@pytest.fixture(params=["fixed", "torchvision"])
def fcos(request: pytest.FixtureRequest) -> Pair:
    """Return FCOS with points as ours, and as torchvision's."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    theirs = randomised(FCOS(backbone, num_classes=CLASSES))
    theirs.transform = Prepared()
    if request.param == "fixed":
        theirs.anchor_generator = Centres(((8,), (16,), (32,), (64,), (128,)), ((1.0,),) * 5)
    config = FcosConfig(backbone=ResNetConfig(depth=18), grid=request.param)
    return Pair(filled(config, theirs, model=fcos_file.TORCHVISION), theirs)


@torch.no_grad()
def test_fcos_predicts_and_finds_what_torchvision_does(fcos: Pair) -> None:
    images, is_padding = prepared_images()
    ours, theirs = fcos.ours.eval(), fcos.theirs.eval()
    output: Any = ours(images, is_padding)
    head = theirs.head(list(theirs.backbone(Prepared()([images])[0].tensors).values()))
    for mine, name in ((output.logits, "cls_logits"), (output.distances, "bbox_regression")):
        near(mine, head[name])
    near(output.centreness, head["bbox_ctrness"][..., 0])
    assert_same_found(ours.found(output, limit=100), theirs([images]), first_label=0)


def test_fcos_learns_from_the_losses_of_torchvision(fcos: Pair) -> None:
    images, is_padding = prepared_images()
    expected = fcos.theirs.train()([images], their_targets(first_label=0))
    losses = FcosConfig().build_criterion()(fcos.ours.train()(images, is_padding), TARGETS, num_boxes=1.0)
    names = {"classification": "classification", "bbox_regression": "giou", "bbox_ctrness": "centreness"}
    for name, ours in names.items():
        near(losses[f"loss_{ours}"], expected[name].detach())
    near(losses["loss"].detach(), sum(expected.values()).detach())
    assert losses["loss_giou"] > 0


@pytest.fixture(params=["fixed", "torchvision"])
def faster_rcnn(request: pytest.FixtureRequest) -> Pair:
    """Return Faster R-CNN with anchors as far apart as ours, and as torchvision's."""
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d)
    theirs = randomised(FasterRCNN(backbone, num_classes=CLASSES + 1, box_detections_per_img=1000))
    theirs.transform = Prepared()
    # Else the scales of pooling are guessed from the sizes without padding.
    theirs.roi_heads.box_roi_pool.scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    theirs.roi_heads.box_roi_pool.map_levels = initLevelMapper(2, 5)
    if request.param == "fixed":
        theirs.rpn.anchor_generator = FixedAnchors(
            tuple((8 * stride,) for stride in (4, 8, 16, 32, 64)), ((0.5, 1.0, 2.0),) * 5
        )
    config = FasterRcnnConfig(backbone=ResNetConfig(depth=18), grid=request.param)
    return Pair(filled(config, theirs, model=faster_rcnn_file.TORCHVISION), theirs)


class FixedAnchors(AnchorGenerator):  # type: ignore[misc]
    """torchvision's anchors, as far apart as the map's stride says."""

    def forward(self, images: ImageList, maps: list[Tensor]) -> list[Tensor]:
        steps = [[torch.tensor(stride)] * 2 for stride in (4, 8, 16, 32, 64)]
        return [torch.cat(self.grid_anchors([each.shape[-2:] for each in maps], steps))] * len(images.image_sizes)


@torch.no_grad()
def test_faster_rcnn_finds_what_torchvision_does(faster_rcnn: Pair) -> None:
    images, is_padding = prepared_images()
    ours, theirs = faster_rcnn.ours.eval(), faster_rcnn.theirs.eval()
    output: Any = ours(images, is_padding)
    prepared, _ = Prepared()([images])
    maps = theirs.backbone(prepared.tensors)
    regions_xyxy, _ = theirs.rpn(prepared, maps)
    for mine, expected in zip(output.regions_xyxy, regions_xyxy, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-5)
    heads = theirs.roi_heads
    logits, moves = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, regions_xyxy, list(SIZES_HW))))
    near(output.logits, logits)
    near(output.moves[:, 4:], moves[:, 4:])
    assert_same_found(ours.found(output, limit=1000), theirs([images]), first_label=1)


def test_faster_rcnn_learns_from_the_losses_of_torchvision(faster_rcnn: Pair) -> None:
    images, is_padding = prepared_images()
    torch.manual_seed(3)
    expected = faster_rcnn.theirs.train()([images], their_targets(first_label=1))
    torch.manual_seed(3)
    output = faster_rcnn.ours.train()(images, is_padding, TARGETS)
    losses = FasterRcnnConfig().build_criterion()(output, TARGETS, num_boxes=1.0)
    names = {
        "loss_objectness": "objectness",
        "loss_rpn_box_reg": "anchor_boxes",
        "loss_classifier": "classification",
        "loss_box_reg": "boxes",
    }
    for name, ours in names.items():
        near(losses[f"loss_{ours}"], expected[name].detach())
        assert expected[name] > 0
    near(losses["loss"].detach(), sum(expected.values()).detach())
