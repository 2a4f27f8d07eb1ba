"""Beside `tests/parity/test_tsp.py`, which needs recorded values, the losses are computed here once more, in loops."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou, roi_align

from condetr.boxes import area, cxcywh_to_xyxy, xyxy_to_cxcywh
from condetr.detectors.regions import moved, moves_to, pool, pooling_level
from condetr.detectors.tsp_rcnn import (
    Drawn,
    TspRcnn,
    TspRcnnConfig,
    TspRcnnCriterion,
    TspRcnnOutput,
    box_code,
    jittered,
    overlapped,
    together,
)
from condetr.errors import InputError
from condetr.shapes import Targets
from tests.tiny import tiny

NO_PADDING = torch.zeros(1, 32, 48, dtype=torch.bool)
MOVE_SCALES = (10.0, 10.0, 5.0, 5.0)


def detector(**settings: Any) -> TspRcnn:  # noqa: ANN401
    torch.manual_seed(1)
    return TspRcnnConfig(**{**vars(tiny(TspRcnnConfig)), "dropout": 0.0, **settings}).build(num_classes=3)


def a_drawing() -> tuple[Tensor, Tensor, Drawn]:
    """Return what seven regions of two images say, and what they learn: objects 0, 1, 1, 2, 2 and nothing, twice."""
    torch.manual_seed(0)
    regions_xyxy = torch.tensor([[0.0, 0.0, 10.0, 12.0]]) + torch.arange(7)[:, None] * torch.tensor(
        [2.0, 1.0, 3.0, 2.0]
    )
    objects = torch.tensor([0, 1, 1, -1, 2, 2, -1])
    boxes_xyxy = regions_xyxy + torch.tensor([1.0, -1.0, 2.0, 0.0])
    drawn = Drawn(regions_xyxy, objects, torch.tensor([0, 2, 2, 0, 1, 1, 0]), boxes_xyxy)
    return torch.randn(7, 4), 0.1 * torch.randn(7, 3, 4), drawn


def output_of(logits: Tensor, moves: Tensor, drawn: Drawn) -> TspRcnnOutput:
    regions_xyxy = (drawn.regions_xyxy[:4], drawn.regions_xyxy[4:])
    nothing = torch.zeros(())
    return TspRcnnOutput(logits, moves, regions_xyxy, ((32, 48), (32, 48)), drawn, (nothing, nothing))


def giou_loss(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = width * height if width > 0 and height > 0 else 0.0
    union = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)) - inside
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return 1 - inside / union + (hull - union) / hull


def losses_in_loops(logits: Tensor, moves: Tensor, drawn: Drawn) -> dict[str, float]:
    """Return the losses of regions, computed for one after another."""
    candidates: dict[int, list[tuple[float, int]]] = {}
    distances = giou = 0.0
    for region, (of, label) in enumerate(zip(drawn.objects.tolist(), drawn.labels.tolist(), strict=True)):
        if of < 0:
            continue
        x1, y1, x2, y2 = drawn.regions_xyxy[region].tolist()
        goal = drawn.boxes_xyxy[region].tolist()
        width, height = x2 - x1, y2 - y1
        dx, dy, dw, dh = moves[region, label].tolist()
        centre = (x1 + x2) / 2 + dx * width, (y1 + y2) / 2 + dy * height
        half = width * math.exp(dw) / 2, height * math.exp(dh) / 2
        box = [centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]]
        true = [
            ((goal[0] + goal[2]) - (x1 + x2)) / 2 / width,
            ((goal[1] + goal[3]) - (y1 + y2)) / 2 / height,
            math.log((goal[2] - goal[0]) / width),
            math.log((goal[3] - goal[1]) / height),
        ]
        mine = (dx, dy, dw, dh)
        distances += sum(scale * abs(a - b) for scale, a, b in zip(MOVE_SCALES, mine, true, strict=True))
        giou += giou_loss(box, goal)
        p = math.exp(float(logits[region, label])) / sum(math.exp(x) for x in logits[region].tolist())
        candidates.setdefault(of, []).append((2 * giou_loss(box, goal) - p, region))
    best = {min(each)[1] for each in candidates.values()}
    classes = weights = 0.0
    for region in range(len(logits)):
        odds = [math.exp(x) for x in logits[region].tolist()]
        label = int(drawn.labels[region]) if region in best else 3
        weight, doubt = (1.0, 1.0) if region in best else (0.1, 2 * (1 - odds[3] / sum(odds)) ** 2)
        classes -= weight * doubt * math.log(odds[label] / sum(odds))
        weights += weight
    return {
        "classification": classes / weights if best else 0.0,
        "boxes": (distances + 2 * giou) / len(logits),
    }


@pytest.mark.parametrize("is_nothing_there", [False, True])
def test_losses_are_those_that_loops_compute(is_nothing_there: bool) -> None:  # noqa: FBT001
    logits, moves, drawn = a_drawing()
    if is_nothing_there:
        drawn = drawn._replace(objects=torch.full_like(drawn.objects, -1))
    report = TspRcnnCriterion()(output_of(logits, moves, drawn), Targets.none(2), num_boxes=1.0)
    expected = losses_in_loops(logits, moves, drawn)
    assert {name: float(report[f"loss_{name}"]) for name in expected} == pytest.approx(expected, rel=1e-4)
    assert (expected["boxes"] == 0) == is_nothing_there


def test_the_surer_the_background_is_the_less_it_counts_and_no_gradient_says_so() -> None:
    logits, moves, drawn = a_drawing()
    logits.requires_grad_()
    TspRcnnCriterion()(output_of(logits, moves, drawn), Targets.none(2), num_boxes=1.0)["loss"].backward()
    assert logits.grad is not None
    p = logits.detach().softmax(-1)
    background = torch.tensor([0.0, 0.0, 0.0, 1.0])
    total = 3 * 1.0 + 4 * 0.1
    expected = 0.1 * 2 * (1 - p[3, 3]) ** 2 * (p[3] - background) / total
    torch.testing.assert_close(logits.grad[3], expected, atol=1e-6, rtol=1e-4)


def test_anchors_are_drawn_and_learned_by_sums_over_how_many_could_be() -> None:
    rpn = detector().rpn.train()
    objectness, moves, goals = torch.randn(12, 1), torch.randn(12, 4), torch.randn(12, 4)
    labels = [torch.tensor([1.0, 0.0, 0.0, -1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, -1.0, 1.0, 0.0, -1.0])]
    holds, distance = rpn.compute_loss(objectness, moves, labels, (goals[:6], goals[6:]))
    of_all = torch.cat(labels)
    x, is_object = objectness[:, 0], of_all == 1
    cross_entropy = torch.where(is_object, (1 + (-x).exp()).log(), (1 + x.exp()).log())
    torch.testing.assert_close(holds, cross_entropy[of_all >= 0].sum() / 512)
    torch.testing.assert_close(distance, 2 * (moves - goals).abs()[is_object].sum() / 512)


def test_anchors_have_three_sizes_of_three_aspects() -> None:
    ours = TspRcnnConfig().build(num_classes=1, pretrained=False).rpn.anchor_generator
    sides = [
        [32, 40.32, 50.80],
        [64, 80.63, 101.59],
        [128, 161.27, 203.19],
        [256, 322.54, 406.37],
        [512, 645.08, 812.75],
    ]
    for level, of_level in enumerate(sides):
        shapes = getattr(ours, f"shapes{level}")
        assert shapes.shape == (9, 4)
        torch.testing.assert_close(shapes[:, :2], -shapes[:, 2:])
        size = 2 * shapes[:, 2:]
        expected = torch.tensor([side for side in of_level for _ in range(3)])
        torch.testing.assert_close(size.prod(1).sqrt(), expected, atol=6e-3, rtol=0)
        torch.testing.assert_close(size[:, 1] / size[:, 0], torch.tensor([0.5, 1.0, 2.0]).repeat(3))


def test_a_new_head_has_matrices_of_its_own_and_vectors_that_are_alike() -> None:
    layers = detector(encoder_layers=2).reader.encoder.layers
    for (name, first), second in zip(layers[0].named_parameters(), layers[1].parameters(), strict=True):
        assert torch.equal(first, second) == (first.dim() == 1), name
    bound = (6 / (16 + 16)) ** 0.5
    weight = detector().reader.code_projection.weight
    assert 0.8 * bound < weight.abs().max() <= bound


@given(st.integers(0, 100))
def test_moves_lead_to_where_they_were_taken_from(seed: int) -> None:
    torch.manual_seed(seed)
    boxes, goals = (cxcywh_to_xyxy(torch.rand(5, 4) * 50 + 1) for _ in range(2))
    torch.testing.assert_close(moved(boxes, moves_to(boxes, goals)), goals, atol=1e-3, rtol=1e-4)


@given(st.integers(0, 100))
def test_jittered_objects_stay_near(seed: int) -> None:
    torch.manual_seed(seed)
    boxes = cxcywh_to_xyxy(torch.rand(5, 4) * 50 + 1)
    before, after = xyxy_to_cxcywh(boxes), xyxy_to_cxcywh(jittered(boxes, torch.rand(5, 4)))
    assert ((after[:, :2] - before[:, :2]).abs() <= 0.1 * before[:, 2:] + 1e-4).all()
    ratio = after[:, 2:] / before[:, 2:]
    assert ((ratio >= 0.8 - 1e-3) & (ratio <= 1.25 + 1e-3)).all()
    assert (overlapped(jittered(boxes, torch.full((5, 4), 0.5)), boxes) == torch.arange(5)).all()


OBJECTS = {"boxes": torch.tensor([[0.0, 0.0, 20.0, 20.0], [30.0, 10.0, 46.0, 30.0]]), "labels": torch.tensor([2, 0])}


def test_a_quarter_of_the_drawn_regions_learns_objects_and_none_is_drawn_twice() -> None:
    ours = detector(sampled_regions=40, dropped=0.3)
    near = OBJECTS["boxes"][torch.arange(30) % 2] + 0.1 * torch.arange(30)[:, None]
    far = torch.tensor([[20.0, 0.0, 28.0, 8.0]]) + torch.arange(60)[:, None] * torch.tensor([0.0, 0.1, 0.0, 0.1])
    for seed in range(5):
        torch.manual_seed(seed)
        drawn = ours.draw(torch.cat([far, near]), OBJECTS)
        assert 28 <= len(drawn.objects) <= 40
        assert len(drawn.regions_xyxy.unique(dim=0)) == len(drawn.objects)
        is_object = drawn.objects >= 0
        assert 1 <= is_object.sum() <= 10
        assert torch.equal(drawn.labels[is_object], OBJECTS["labels"][drawn.objects[is_object]])
        assert torch.equal(drawn.boxes_xyxy[is_object], OBJECTS["boxes"][drawn.objects[is_object]])
        assert (box_iou(drawn.regions_xyxy, OBJECTS["boxes"]).amax(1)[~is_object] < 0.5).all()


def test_if_no_region_overlaps_an_object_the_objects_are_added() -> None:
    ours = detector(dropped=0.0)
    far = torch.tensor([[20.0, 0.0, 28.0, 8.0]]).repeat(6, 1)
    drawn = ours.draw(far, OBJECTS)
    assert sorted(drawn.objects.tolist()) == [-1] * 6 + [0, 1]
    assert ours.draw(far[:0], OBJECTS).objects.sort().values.tolist() == [0, 1]
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    assert ours.draw(far, nothing).objects.tolist() == [-1] * 6


def test_draws_depend_on_the_seed_alone() -> None:
    ours, regions = detector(sampled_regions=20), torch.rand(50, 4).cumsum(1) * 10
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(ours.draw(regions, OBJECTS).regions_xyxy.tolist())
    assert found[0] == found[1] != found[2]


def test_objects_of_all_images_are_numbered_through() -> None:
    parts = [
        Drawn(torch.zeros(3, 4), torch.tensor(objects), torch.zeros(3, dtype=torch.int64), torch.zeros(3, 4))
        for objects in ([4, -1, 0], [-1, -1, -1], [0, 1, -1])
    ]
    assert together(parts, num_objects=[5, 0, 2]).objects.tolist() == [4, -1, 0, -1, -1, -1, 5, 6, -1]


@pytest.mark.parametrize(
    ("side", "level"), [(1, 0), (55, 0), (111, 0), (112, 1), (223, 1), (224, 2), (447, 2), (448, 3), (9000, 3)]
)
def test_a_region_is_pooled_from_the_level_that_suits_its_size(side: float, level: int) -> None:
    boxes_xyxy = torch.tensor([[10.0, 10.0, 10.0 + side, 10.0 + side]])
    assert pooling_level(boxes_xyxy, strides=(4, 8, 16, 32)).tolist() == [level]


def test_regions_keep_their_order_when_they_are_pooled_from_several_levels() -> None:
    maps = tuple(torch.randn(2, 3, 64 // stride, 64 // stride) for stride in (4, 8))
    regions = [torch.tensor([[0.0, 0.0, 60.0, 60.0], [3.0, 2.0, 20.0, 30.0]]), torch.tensor([[1.0, 1.0, 190.0, 130.0]])]
    found = pool(maps, regions, strides=(4, 8))
    levels = pooling_level(torch.cat(regions), strides=(4, 8)).int().tolist()
    assert levels == [0, 0, 1]
    for row, (image, box) in enumerate([(0, regions[0][0]), (0, regions[0][1]), (1, regions[1][0])]):
        map_, scale = maps[levels[row]], 1 / (4, 8)[levels[row]]
        rois = torch.cat([torch.tensor([float(image)]), box])[None]
        expected = roi_align(map_, rois, 7, spatial_scale=scale, sampling_ratio=0, aligned=True)
        torch.testing.assert_close(found[row], expected[0])


def test_regions_of_other_images_do_not_change_what_is_read() -> None:
    reader = detector().reader.eval()
    counts = (5, 2, 0)
    pooled = torch.randn(7, 32 * 49)
    codes = [box_code(area_boxes(count), (32, 48), dim=16) for count in counts]
    together_read = reader(pooled, codes)
    torch.testing.assert_close(together_read[:5], reader(pooled[:5], codes[:1]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together_read[5:], reader(pooled[5:], codes[1:2]), atol=1e-5, rtol=1e-5)
    together_read.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in reader.parameters() if parameter.grad is not None)


def area_boxes(count: int) -> Tensor:
    boxes_xyxy = torch.rand(count, 4).cumsum(1) * 8
    assert (area(boxes_xyxy) >= 0).all()
    return boxes_xyxy


def test_a_region_is_encoded_by_centre_size_and_corners() -> None:
    code = box_code(torch.tensor([[12.0, 8.0, 36.0, 16.0]]), (32, 48), dim=32)
    numbers = [0.5, 0.375, 0.5, 0.25, 0.25, 0.25, 0.75, 0.5]
    expected = [f(2 * math.pi * x / 10_000 ** (k / 2)) for x in numbers for k in (0, 1) for f in (math.sin, math.cos)]
    torch.testing.assert_close(code[0], torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_images_without_regions_have_no_objects() -> None:
    ours = detector().eval()
    output = ours(torch.full((1, 3, 32, 48), torch.nan), NO_PADDING)
    assert len(output.logits) == 0
    assert [len(found.scores) for found in ours.found(output, limit=10)] == [0]


def test_without_regions_and_objects_nothing_is_learned_from_regions() -> None:
    logits, moves, drawn = a_drawing()
    empty = Drawn(*(each[:0] for each in drawn))
    report = TspRcnnCriterion()(output_of(logits[:0], moves[:0], empty), Targets.none(2), num_boxes=1.0)
    assert report["loss"] == 0


def test_boxes_without_area_are_not_learned() -> None:
    targets = Targets.of([(torch.tensor([0, 1]), torch.tensor([[0.5, 0.5, 0.0, 0.2], [0.5, 0.5, 0.2, 0.4]]))])
    output = detector().train()(torch.randn(1, 3, 32, 48), NO_PADDING, targets)
    assert output.drawn is not None
    assert set(output.drawn.labels[output.drawn.objects >= 0].tolist()) <= {1}
    assert all(loss.isfinite() for loss in TspRcnnCriterion()(output, targets, num_boxes=2.0).values())


def test_what_other_classes_had_goes_to_the_background() -> None:
    predictor = detector().predictor
    torch.nn.init.normal_(predictor.box_head.layers[-1].weight)  # type: ignore[arg-type]
    embeddings = torch.randn(5, 16)
    logits, moves = predictor(embeddings)
    before = logits.softmax(-1)
    predictor.keep_classes([2, 0])
    logits, kept_moves = predictor(embeddings)
    torch.testing.assert_close(kept_moves, moves[:, [2, 0]])
    expected = torch.stack([before[:, 2], before[:, 0], before[:, 1] + before[:, 3]], dim=1)
    torch.testing.assert_close(logits.softmax(-1), expected)


def test_a_width_that_eight_numbers_cannot_share_is_refused() -> None:
    with pytest.raises(InputError, match=r"multiple of 16 and of detector\.num_heads, got 24 and 8"):
        TspRcnnConfig(hidden_dim=24).build(num_classes=2, pretrained=False)
