"""TSP-FCOS and TSP-RCNN beside recorded values of the authors' code, at the same weights and the same input."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection.rpn import concat_box_prediction_layers

from condetr.boxes import cxcywh_to_xyxy
from condetr.detectors import tsp_fcos, tsp_rcnn
from condetr.detectors.points import assigned, distances_to_sides, points_of, true_centreness
from condetr.detectors.regions import pool, pooling_level, propose, sizes_without_padding
from condetr.detectors.tsp_family import cheapest
from condetr.detectors.tsp_fcos import TspFcos, TspFcosConfig, TspFcosCriterion, TspFcosOutput
from condetr.detectors.tsp_rcnn import Drawn, TspRcnn, TspRcnnConfig, TspRcnnCriterion, TspRcnnOutput
from condetr.interop.detectron2_file import names_of
from condetr.layers.positions import cell_places, point_embedding
from condetr.layers.pyramid import image_sizes
from condetr.losses.criterion import LossReport
from condetr.shapes import Found
from tests.parity.detectron2 import (
    REFERENCE,
    batch_of,
    facts,
    near,
    needs_reference,
    roughly_near,
    same_loss,
    targets_of,
    values,
    with_their_weights,
)

pytestmark = needs_reference

STRIDES = (8, 16, 32, 64, 128)
ENCODER = {"hidden_dim": 32, "num_heads": 2, "feedforward_dim": 64, "encoder_layers": 2}
MODES = ("eval", "train")
CLASSES = 5


def points_detector(*, training: bool) -> TspFcos:
    sizes = {"dim": 64, "convolutions": 1, "proposals": 40, **ENCODER}
    detector = with_their_weights(TspFcosConfig, model=tsp_fcos.DETECTRON2, folder="tsp_fcos", **sizes)
    assert isinstance(detector, TspFcos)
    return detector.train(training)


def regions_detector(*, training: bool) -> TspRcnn:
    sizes = {
        "dim": 32,
        "proposals": 80,
        "candidates": 120,
        "training_candidates": 150,
        "sampled_regions": 48,
        **ENCODER,
    }
    detector = with_their_weights(TspRcnnConfig, model=tsp_rcnn.DETECTRON2, folder="tsp_rcnn", **sizes)
    assert isinstance(detector, TspRcnn)
    detector.rpn.fg_bg_sampler.batch_size_per_image = 64
    return detector.train(training)


def of_levels(recorded: dict[str, Tensor], name: str, *, first: int, count: int) -> list[Tensor]:
    return [recorded[f"{name}{level}"] for level in range(first, first + count)]


def of_images(recorded: dict[str, Tensor], name: str) -> list[Tensor]:
    return of_levels(recorded, name, first=0, count=2)


def flat(maps: list[Tensor]) -> Tensor:
    return torch.cat([each.flatten(2) for each in maps], dim=2).transpose(1, 2)


def assert_maps(detector: TspFcos | TspRcnn, recorded: dict[str, Tensor], *, first: int) -> None:
    """Compare the maps of the backbone and of the pyramid, the first of which is P3 or P2."""
    images = batch_of(recorded).normalised()
    stages = detector.pyramid.backbone(detector.pyramid.padded(images))
    for stage, map_ in enumerate(stages, start=first):
        near(map_, recorded[f"res.res{stage}"])
    maps = detector.pyramid(images)
    for level, map_ in enumerate(maps, start=first):
        (roughly_near if level == 7 and detector.training else near)(map_, recorded[f"fpn.p{level}"])


def assert_statistics(detector: nn.Module, recorded: dict[str, Tensor], *, model: Any) -> None:  # noqa: ANN401
    """Compare the statistics of the pyramid's norms after one batch; those recorded of TSP-FCOS are from before it."""
    state = detector.state_dict()
    names = {theirs: ours for ours, theirs in names_of(state, model=model).items()}
    statistics = [name for name in recorded if name.startswith("bn_after.")]
    assert len(statistics) == 4
    for name in statistics:
        near(state[names[name.removeprefix("bn_after.")]], recorded[name])


def assert_found(found: list[Found], recorded: dict[str, Tensor], *, scale: float = 2.0) -> None:
    """Compare the best objects with the recorded ones as sets: scores may differ by less than rounding."""
    for image, each in enumerate(found):
        count = len(recorded[f"det.scores{image}"])
        assert len(each.scores) >= count
        height, width = recorded[f"image{image}"].shape[1:]
        size = scale * torch.tensor([width, height] * 2)
        ours = torch.cat([cxcywh_to_xyxy(each.boxes_cxcywh) * size, each.scores[:, None], each.labels[:, None]], dim=1)
        names = ("boxes", "scores", "labels")
        boxes, scores, labels = (recorded[f"det.{name}{image}"].float() for name in names)
        theirs = torch.cat([boxes, scores[:, None], labels[:, None]], dim=1)
        farthest = torch.cdist(ours[:count].double(), theirs.double(), p=torch.inf).min(dim=0)
        assert farthest.values.max() < 1e-4
        assert sorted(farthest.indices.tolist()) == [*range(count)]


def assert_losses(report: LossReport, expected: dict[str, float], *, names: dict[str, str]) -> None:
    for theirs, ours in names.items():
        same_loss(report[f"loss_{ours}"], torch.tensor(expected[theirs]))


def assert_gradients(detector: nn.Module, expected: dict[str, float], *, model: Any) -> None:  # noqa: ANN401
    """Compare the norm of every parameter's gradient; those of biases before a batch norm are rounding alone."""
    names = names_of(detector.state_dict(), model=model)
    found = {names[name]: each.grad for name, each in detector.named_parameters() if each.requires_grad}
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(expected[name], rel=2e-3, abs=2e-5), name


FCOS_LOSSES = {
    "loss_fcos_local_cls": "cells",
    "loss_fcos_cls": "classification",
    "loss_fcos_loc": "giou",
    "loss_fcos_ctr": "centreness",
}


def assigned_in(recorded: dict[str, Tensor], detector: TspFcos, cells: tsp_fcos.Cells, *, images: int = 2) -> Tensor:
    """Return the targets of points from boxes in pixels: relative ones would move sides off the limits of a range."""
    boxes_xyxy = [each if image < images else each[:0] for image, each in enumerate(of_images(recorded, "gt.boxes"))]
    radius = detector.centre_radius
    return torch.stack([assigned(cells.points, each, centre_radius=radius, with_limits=True) for each in boxes_xyxy])


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_maps_of_points_are_the_recorded_ones(mode: str) -> None:
    recorded, detector = values("tsp_fcos", mode), points_detector(training=mode == "train")
    assert_maps(detector, recorded, first=3)


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_cells_say_and_lie_as_recorded(mode: str) -> None:
    recorded, detector = values("tsp_fcos", mode), points_detector(training=mode == "train")
    batch = batch_of(recorded)
    cells = detector.look(batch.normalised(), batch.is_padding)
    near(cells.logits, flat(of_levels(recorded, "head.logits", first=0, count=5)))
    towers = [flat(of_levels(recorded, f"head.{name}_tower", first=0, count=5)) for name in ("cls", "box")]
    (roughly_near if mode == "train" else near)(cells.features, torch.cat(towers, dim=-1))
    near(cells.points.xy, torch.cat(of_levels(recorded, "locations", first=0, count=5)), atol=0)
    near(point_embedding(cells.positions_xy, dim=32), flat(of_levels(recorded, "pos.embed", first=0, count=5)))


@torch.no_grad()
def test_masks_are_halved_step_by_step() -> None:
    recorded, detector = values("tsp_fcos", "eval"), points_detector(training=False)
    batch = batch_of(recorded)
    maps = detector.pyramid(batch.normalised())
    masks = [*tsp_fcos.level_masks(batch.is_padding, maps, strides=detector.strides)]
    for mask, expected in zip(masks, of_levels(recorded, "pos.mask", first=0, count=5), strict=True):
        assert torch.equal(mask, expected)
    straight = [torch.nn.functional.interpolate(batch.is_padding[None].float(), size=each.shape[-2:]) for each in maps]
    differing = [int((a[0].bool() != b).sum()) for a, b in zip(straight, masks, strict=True)]
    assert sum(differing) > 0
    assert cell_places(masks[0]).shape == (2, 192, 2)


@torch.no_grad()
def test_points_learn_the_recorded_targets() -> None:
    recorded, detector = values("tsp_fcos", "train"), points_detector(training=True)
    batch = batch_of(recorded)
    cells = detector.look(batch.normalised(), batch.is_padding)
    learned = assigned_in(recorded, detector, cells)
    labels = targets_of(recorded).labels.gather(1, learned.clamp(min=0))
    assert torch.equal(torch.where(learned >= 0, labels, CLASSES), recorded["gt.labels"])
    firsts = torch.tensor([[0], [len(recorded["gt.boxes0"])]])
    is_learned = learned >= 0
    assert torch.equal((learned + firsts)[is_learned], recorded["gt.target_inds"][is_learned])
    for image, boxes_xyxy in enumerate(of_images(recorded, "gt.boxes")):
        point = torch.where(is_learned[image])[0]
        distances = distances_to_sides(cells.points.xy[point], boxes_xyxy[learned[image, point]])
        near(distances / cells.points.strides[point, None], recorded["gt.reg_targets"][image, point], atol=1e-6)


@pytest.mark.parametrize("image", [0, 1])
def test_points_of_a_large_image_learn_the_recorded_targets(image: int) -> None:
    recorded = load_file(REFERENCE / "tsp_fcos" / "assignment.safetensors")
    maps = tuple(torch.zeros(1, 1, *size_hw) for size_hw in recorded["grid_hw"].tolist())
    points = points_of(maps, strides=STRIDES, cells_hw=tuple(zip(STRIDES, STRIDES, strict=True)))
    boxes_xyxy = recorded[f"boxes{image}"]
    learned = assigned(points, boxes_xyxy, centre_radius=1.5, with_limits=True)
    point = torch.where(learned >= 0)[0]
    here = recorded["positive_image_location"][:, 0] == image
    assert point.tolist() == recorded["positive_image_location"][here, 1].tolist()
    first = 0 if image == 0 else len(recorded["boxes0"])
    assert (learned[point] + first).tolist() == recorded["gt_index"][here].tolist()
    assert recorded[f"classes{image}"][learned[point]].tolist() == recorded["label"][here].tolist()
    distances = distances_to_sides(points.xy[point], boxes_xyxy[learned[point]]) / points.strides[point, None]
    near(distances, recorded["reg_target"][here], atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_the_recorded_points_are_chosen_and_predict_the_same(mode: str) -> None:
    recorded, detector = values("tsp_fcos", mode), points_detector(training=mode == "train")
    batch = batch_of(recorded)
    cells = detector.look(batch.normalised(), batch.is_padding)
    learned = assigned_in(recorded, detector, cells) if mode == "train" else None
    scores = tsp_fcos.interest(cells.logits, learned=learned)
    near(scores, recorded["foi.scores"])
    best = scores.topk(detector.most_objects).indices
    assert torch.equal(best, recorded["foi.topk_index"])
    chosen = recorded["foi.index"]
    if mode == "train":
        assert torch.equal(best[:, recorded["foi.kept_positions"]], chosen)
    assert torch.equal(cells.points.level_of(chosen), recorded["foi.level"])
    output = detector.read(cells, chosen, sizes_wh=image_sizes(batch.is_padding), learned=learned)
    near(output.logits, recorded["out.logits"])
    near(output.distances, recorded["out.ltrb_stride_units"])
    near(output.centreness, recorded["out.ctr"][..., 0])


@torch.no_grad()
def test_points_find_the_recorded_objects() -> None:
    recorded, detector = values("tsp_fcos", "eval"), points_detector(training=False)
    batch = batch_of(recorded)
    output = detector(batch.normalised(), batch.is_padding)
    assert torch.equal(output.chosen, recorded["foi.topk_index"])
    assert_found(detector.found(output, limit=1000), recorded)
    assert [len(each.scores) for each in detector.found(output, limit=10)] == [10, 10]


def training_output(
    detector: TspFcos, recorded: dict[str, Tensor], *, chosen: Tensor, images: int = 2
) -> TspFcosOutput:
    batch = batch_of(recorded)
    cells = detector.look(batch.normalised(), batch.is_padding)
    learned = assigned_in(recorded, detector, cells, images=images)
    if chosen.dim() == 1:
        chosen = tsp_fcos.interest(cells.logits, learned=learned).topk(40).indices[:, chosen]
    return detector.read(cells, chosen, sizes_wh=image_sizes(batch.is_padding), learned=learned)


def test_points_learn_from_the_recorded_losses_and_gradients() -> None:
    recorded, detector = values("tsp_fcos", "train"), points_detector(training=True)
    output = training_output(detector, recorded, chosen=recorded["foi.index"])
    report = TspFcosCriterion()(output, targets_of(recorded), num_boxes=1.0)
    expected = facts("tsp_fcos")["train"]
    assert_losses(report, expected["losses"], names=FCOS_LOSSES)
    same_loss(report["loss"].detach(), torch.tensor(expected["total"]))
    report["loss"].backward()
    assert_gradients(detector, expected["grad_norm"], model=tsp_fcos.DETECTRON2)


def test_an_image_without_targets_is_background() -> None:
    recorded, detector = values("tsp_fcos", "train"), points_detector(training=True)
    expected = facts("tsp_fcos")["train_image1_without_targets"]
    output = training_output(detector, recorded, chosen=torch.tensor(expected["kept_positions"]), images=1)
    report = TspFcosCriterion()(output, targets_of(recorded, of_images=(0,)), num_boxes=1.0)
    assert_losses(report, expected["losses"], names=FCOS_LOSSES)


def test_without_any_target_only_classes_are_learned_and_none_is_wrong() -> None:
    recorded, detector = values("tsp_fcos", "train"), points_detector(training=True)
    expected = facts("tsp_fcos")["train_no_targets_at_all"]
    output = training_output(detector, recorded, chosen=torch.tensor(expected["kept_positions"]), images=0)
    report = TspFcosCriterion()(output, targets_of(recorded, of_images=()), num_boxes=1.0)
    same_loss(report["loss_cells"], torch.tensor(expected["losses"]["loss_fcos_local_cls"]))
    assert report["loss_giou"] == report["loss_centreness"] == 0
    # Theirs makes all classes of one point true by mistake. With that mistake, ours is the same.
    classes = torch.zeros_like(output.logits)
    classes.view(-1, CLASSES)[CLASSES] = 1
    p = output.logits.sigmoid()
    focal = -classes * 0.25 * (1 - p) ** 2 * p.log() - (1 - classes) * 0.75 * p**2 * (1 - p).log()
    same_loss((focal.sum() / 2.2).detach(), torch.tensor(expected["losses"]["loss_fcos_cls"]), rtol=1e-4)
    right = 0.75 * p**2 * -(1 - p).log()
    same_loss(report["loss_classification"], (right.sum() / 2.2).detach(), rtol=1e-4)


@torch.no_grad()
def test_each_object_is_learned_by_the_recorded_point() -> None:
    recorded, detector = values("tsp_fcos", "train"), points_detector(training=True)
    output = training_output(detector, recorded, chosen=recorded["foi.index"])
    assert output.assigned is not None
    of_chosen, targets = output.assigned.gather(1, output.chosen), targets_of(recorded)
    image, query = torch.where(of_chosen >= 0)
    target = of_chosen[image, query]
    boxes_xyxy = torch.stack([of_images(recorded, "gt.boxes")[i][t] for i, t in zip(image, target, strict=True)])
    xy, strides = output.points.xy[output.chosen[image, query]], output.points.strides[output.chosen[image, query]]
    giou = tsp_fcos.giou_loss_of_distances(
        output.distances[image, query], distances_to_sides(xy, boxes_xyxy) / strides[:, None]
    )
    logits = output.logits[image, query, targets.labels[image, target]]
    costs = tsp_fcos.point_costs(logits, giou, centreness=true_centreness(xy, boxes_xyxy))
    number, column = 4 * image + target, output.chosen.shape[1] * image + query
    near(costs, recorded["match.cost"][number, column])
    assert int((recorded["match.cost"] < 1e8).sum()) == len(costs)
    learning = cheapest(costs, of=number)
    assert number[learning].tolist() == recorded["match.gt"].tolist()
    assert column[learning].tolist() == recorded["match.chosen_foi"].tolist()


RCNN_LOSSES = {"loss_obj": "classification", "loss_box_reg": "boxes"}
PROPOSAL_LOSSES = {"loss_rpn_cls": "objectness", "loss_rpn_loc": "anchor_boxes"}


def objects_in(recorded: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    names = ("gt.boxes", "gt.classes")
    images = zip(*(of_images(recorded, name) for name in names), strict=True)
    return [{"boxes": boxes, "labels": labels} for boxes, labels in images]


def drawn_in(recorded: dict[str, Tensor]) -> Drawn:
    """Return the recorded regions with what they learn by our matching."""
    images = zip(of_images(recorded, "roi.boxes"), objects_in(recorded), strict=True)
    drawn = [tsp_rcnn.drawn_of(each, tsp_rcnn.overlapped(each, there["boxes"]), there) for each, there in images]
    return tsp_rcnn.together(drawn, num_objects=[len(boxes) for boxes in of_images(recorded, "gt.boxes")])


def proposal_losses(detector: TspRcnn, maps: tuple[Tensor, ...], recorded: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Return the losses of the anchors that are recorded as drawn."""
    cells_hw = detector.pyramid.cells_hw(maps, grid="fixed")[1:]
    objectness, moves = concat_box_prediction_layers(*detector.rpn.head(list(maps[1:])))
    anchors = [detector.rpn.anchor_generator(maps[1:], cells_hw=cells_hw)] * 2
    labels, matched = detector.rpn.assign_targets_to_anchors(anchors, objects_in(recorded))
    drawn = [each.float() for each in of_images(recorded, "rpn.anchor_label")]
    for ours, theirs in zip(labels, drawn, strict=True):
        assert torch.equal(ours[theirs >= 0], theirs[theirs >= 0])
    losses: tuple[Tensor, ...] = detector.rpn.compute_loss(
        objectness, moves, drawn, detector.rpn.box_coder.encode(matched, anchors)
    )
    return losses


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_maps_of_regions_are_the_recorded_ones(mode: str) -> None:
    recorded, detector = values("tsp_rcnn", mode), regions_detector(training=mode == "train")
    assert_maps(detector, recorded, first=2)
    if mode == "train":
        assert_statistics(detector, recorded, model=tsp_rcnn.DETECTRON2)


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_the_recorded_regions_are_proposed(mode: str) -> None:
    recorded, detector = values("tsp_rcnn", mode), regions_detector(training=mode == "train")
    batch = batch_of(recorded)
    maps = detector.pyramid(batch.normalised())
    cells_hw = detector.pyramid.cells_hw(maps, grid="fixed")[1:]
    objectness, moves = detector.rpn.head(list(maps[1:]))
    for level in range(5):
        close = roughly_near if level == 4 and mode == "train" else near
        close(objectness[level], recorded[f"rpn.logits{level}"])
        close(moves[level], recorded[f"rpn.deltas{level}"])
    anchors = detector.rpn.anchor_generator(maps[1:], cells_hw=cells_hw)
    near(anchors, torch.cat(of_levels(recorded, "anchors", first=0, count=5)), atol=0)
    proposed = propose(
        detector.rpn,
        maps[1:],
        cells_hw=cells_hw,
        sizes_hw=sizes_without_padding(batch.is_padding),
        learned=None,
        most=80,
    )
    for ours, theirs in zip(proposed.regions_xyxy, of_images(recorded, "proposals.boxes"), strict=True):
        near(ours, theirs)


@torch.no_grad()
def test_anchors_learn_the_recorded_objects() -> None:
    recorded, detector = values("tsp_rcnn", "train"), regions_detector(training=True)
    anchors = [torch.cat(of_levels(recorded, "anchors", first=0, count=5))] * 2
    labels, matched = detector.rpn.assign_targets_to_anchors(anchors, objects_in(recorded))
    for image in range(2):
        theirs = recorded[f"rpn.anchor_label{image}"]
        assert torch.equal(labels[image][theirs >= 0], theirs[theirs >= 0].float())
        is_object = theirs == 1
        assert is_object.any()
        assert torch.equal(matched[image][is_object], recorded[f"rpn.anchor_gt{image}"][is_object])


@torch.no_grad()
def test_regions_of_every_size_are_pooled_as_recorded() -> None:
    recorded = load_file(REFERENCE / "tsp_rcnn" / "pooler.safetensors")
    strides, maps = (4, 8, 16, 32), tuple(recorded[f"p{level}"] for level in range(2, 6))
    regions_xyxy = of_images(recorded, "boxes")
    levels = pooling_level(torch.cat(regions_xyxy), strides=strides)
    assert (levels + 2).tolist() == recorded["level"].tolist()
    near(pool(maps, regions_xyxy, strides=strides), recorded["pooled"][~recorded["mask"]], atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("mode", MODES)
def test_regions_are_read_as_recorded(mode: str) -> None:
    recorded, detector = values("tsp_rcnn", mode), regions_detector(training=mode == "train")
    batch = batch_of(recorded)
    sizes_hw = sizes_without_padding(batch.is_padding)
    regions_xyxy = of_images(recorded, "proposals.boxes" if mode == "eval" else "roi.boxes")
    maps = detector.pyramid(batch.normalised())
    pooled = pool(maps[:4], regions_xyxy, strides=detector.strides[:4])
    codes = [tsp_rcnn.box_code(*each, dim=32) for each in zip(regions_xyxy, sizes_hw, strict=True)]
    counts = [len(each) for each in regions_xyxy]
    for image, each in enumerate(pooled.split(counts)):
        near(each[:10], recorded["roi.pooled_first10"][image])
        near(codes[image], recorded["head.code"][image, : counts[image]])
    near(detector.reader(pooled.flatten(1), codes), recorded["enc.output"][~recorded["roi.mask"]])
    logits, moves = detector.read(maps, regions_xyxy, sizes_hw)
    near(logits, recorded["out.logits"])
    near((moves * torch.tensor(tsp_rcnn.MOVE_SCALES)).flatten(1), recorded["out.deltas"])


@torch.no_grad()
def test_regions_find_the_recorded_objects() -> None:
    recorded, detector = values("tsp_rcnn", "eval"), regions_detector(training=False)
    batch = batch_of(recorded)
    output = detector(batch.normalised(), batch.is_padding)
    found = detector.found(output, limit=100)
    assert_found(found, recorded)
    for ours, theirs in zip(found, of_images(recorded, "det_raw.roi"), strict=True):
        assert ours.source.tolist() == theirs.tolist()


@torch.no_grad()
@pytest.mark.parametrize("mode", ["train", "train_jitter"])
def test_regions_learn_the_recorded_objects(mode: str) -> None:
    recorded = values("tsp_rcnn", mode)
    drawn = drawn_in(recorded)
    is_object, labels = drawn.objects >= 0, torch.cat(of_images(recorded, "roi.gt_classes"))
    assert torch.equal(torch.where(is_object, drawn.labels, CLASSES), labels)
    firsts = [0, len(recorded["gt.boxes0"])]
    numbers = torch.cat([each + first for each, first in zip(of_images(recorded, "roi.gt_index"), firsts, strict=True)])
    assert torch.equal(drawn.objects[is_object], numbers[is_object])
    assert torch.equal(drawn.boxes_xyxy[is_object], torch.cat(of_images(recorded, "roi.gt_boxes"))[is_object])


@torch.no_grad()
def test_an_object_that_no_region_overlaps_is_jittered_as_recorded() -> None:
    recorded = values("tsp_rcnn", "train_jitter")
    jittered = tsp_rcnn.jittered(recorded["gt.boxes1"], recorded["jitter.uniform0"])
    assert not (tsp_rcnn.overlapped(recorded["proposals.boxes1"], recorded["gt.boxes1"]) >= 0).any()
    distance = (recorded["roi.boxes1"] - jittered).abs().amax(-1)
    assert distance.min() < 1e-4
    assert recorded["roi.gt_classes1"][distance.argmin()] == recorded["gt.classes1"][0]


@pytest.mark.parametrize("mode", ["train", "train_jitter"])
def test_regions_learn_from_the_recorded_losses(mode: str) -> None:
    recorded, detector = values("tsp_rcnn", mode), regions_detector(training=True)
    batch = batch_of(recorded)
    sizes_hw, regions_xyxy = sizes_without_padding(batch.is_padding), of_images(recorded, "roi.boxes")
    maps = detector.pyramid(batch.normalised())
    of_anchors = proposal_losses(detector, maps, recorded)
    logits, moves = detector.read(maps, regions_xyxy, sizes_hw)
    output = TspRcnnOutput(logits, moves, tuple(regions_xyxy), sizes_hw, drawn_in(recorded), of_anchors)
    report = TspRcnnCriterion()(output, targets_of(recorded), num_boxes=1.0)
    expected = facts("tsp_rcnn")[mode]
    assert_losses(report, expected["losses"], names=RCNN_LOSSES | PROPOSAL_LOSSES)
    if mode == "train":
        same_loss(report["loss"].detach(), torch.tensor(expected["total"]))
        report["loss"].backward()
        assert_gradients(detector, expected["grad_norm"], model=tsp_rcnn.DETECTRON2)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["train", "train_jitter"])
def test_each_object_is_learned_by_the_recorded_region(mode: str) -> None:
    recorded = values("tsp_rcnn", mode)
    drawn, logits = drawn_in(recorded), recorded["out.logits"]
    moves = recorded["out.deltas"].view(len(logits), -1, 4) / torch.tensor(tsp_rcnn.MOVE_SCALES)
    learning = tsp_rcnn.learning_regions(drawn, logits=logits, moves=moves)
    expected = torch.where(recorded["match.adjusted_targets"] < CLASSES)[0]
    assert sorted(learning.tolist()) == expected.tolist()
    assert torch.equal(drawn.labels[expected], recorded["match.adjusted_targets"][expected])


def test_without_objects_nothing_is_learned_but_that_anchors_hold_none() -> None:
    recorded, detector = values("tsp_rcnn", "train"), regions_detector(training=True)
    batch, targets = batch_of(recorded), targets_of(recorded, of_images=())
    torch.manual_seed(0)
    report = TspRcnnCriterion()(detector(batch.normalised(), batch.is_padding, targets), targets, num_boxes=1.0)
    assert report["loss_classification"] == report["loss_boxes"] == report["loss_anchor_boxes"] == 0
    assert report["loss_objectness"] > 0
