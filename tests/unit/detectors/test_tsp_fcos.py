"""Beside `tests/parity/test_tsp.py`, which needs recorded values, the losses are computed here once more, in loops."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from condetr.boxes import cxcywh_to_xyxy
from condetr.detectors.tsp_fcos import (
    TspFcos,
    TspFcosConfig,
    TspFcosCriterion,
    TspFcosOutput,
    giou_loss_of_distances,
    interest,
    level_masks,
)
from condetr.errors import InputError
from condetr.shapes import Targets
from tests.tiny import tiny

SIZES_HW = ((48, 64), (40, 50))
"""Of two images in a batch of 48 x 64."""
# Their sides and centres are at no limit of what points learn, which rounding would decide.
TARGETS = Targets.of(
    [
        (
            torch.tensor([0, 1, 1]),
            torch.tensor([[0.51, 0.53, 0.47, 0.61], [0.31, 0.29, 0.23, 0.21], [0.41, 0.52, 0.87, 0.89]]),
        ),
        (torch.tensor([1]), torch.tensor([[0.43, 0.59, 0.31, 0.33]])),
    ]
)
NOTHING = Targets.none(2)


def images() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    is_padding = torch.ones(2, 48, 64, dtype=torch.bool)
    for mask, (height, width) in zip(is_padding, SIZES_HW, strict=True):
        mask[:height, :width] = False
    return torch.randn(2, 3, 48, 64) * ~is_padding[:, None], is_padding


def detector(**settings: Any) -> TspFcos:  # noqa: ANN401
    torch.manual_seed(1)
    sizes = {**vars(tiny(TspFcosConfig)), "dropout": 0.0, **settings}
    found = TspFcosConfig(**sizes).build(num_classes=2)
    for name, parameter in found.named_parameters():
        if name.startswith(("cell_classifier", "class_head", "centreness_head", "box_head")):
            torch.nn.init.normal_(parameter, std=0.3)  # otherwise all points say the same
    return found


def output_of(ours: TspFcos, targets: Targets, *, seed: int = 2) -> TspFcosOutput:
    batch = images()
    torch.manual_seed(seed)
    output: TspFcosOutput = ours.train()(*batch, targets)
    return output


def focal(logit: float, *, is_true: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if is_true else -0.75 * p**2 * math.log(1 - p)


def sides(point: tuple[float, float], box: list[float]) -> list[float]:
    (x, y), (x1, y1, x2, y2) = point, box
    return [x - x1, y - y1, x2 - x, y2 - y]


def learned_in_loops(output: TspFcosOutput, boxes: list[list[list[float]]]) -> list[list[int]]:
    """Return the target of each point of each image, or -1, as the paper of FCOS assigns them."""
    levels = sorted(set(output.points.strides.tolist()))
    found = []
    for of_image in boxes:
        row = []
        for (x, y), stride in zip(output.points.xy.tolist(), output.points.strides.tolist(), strict=True):
            least = -1.0 if stride == levels[0] else 4 * stride
            most = 1e8 if stride == levels[-1] else 8 * stride
            fitting = []
            for place, box in enumerate(of_image):
                centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                near = [
                    max(box[0], centre[0] - 1.5 * stride),
                    max(box[1], centre[1] - 1.5 * stride),
                    min(box[2], centre[0] + 1.5 * stride),
                    min(box[3], centre[1] + 1.5 * stride),
                ]
                if min(sides((x, y), near)) > 0 and least <= max(sides((x, y), box)) <= most:
                    fitting.append(((box[2] - box[0]) * (box[3] - box[1]), place))
            row.append(min(fitting)[1] if fitting else -1)
        found.append(row)
    return found


def losses_in_loops(output: TspFcosOutput, targets: Targets) -> dict[str, float]:
    """Return the losses of a batch, computed for one point after another."""
    boxes = [
        (cxcywh_to_xyxy(each[:count]) * torch.tensor([width, height, width, height])).tolist()
        for each, count, (height, width) in zip(targets.boxes_cxcywh, targets.counts, SIZES_HW, strict=True)
    ]
    learned = learned_in_loops(output, boxes)
    cells, num_learning = 0.0, 0
    for image, row in enumerate(learned):
        for point, target in enumerate(row):
            num_learning += target >= 0
            for label, logit in enumerate(output.cell_logits[image, point].tolist()):
                cells += focal(logit, is_true=target >= 0 and label == int(targets.labels[image, target]))
    candidates: dict[tuple[int, int], list[tuple[float, int, float, float, float]]] = {}
    for image, row in enumerate(output.chosen.tolist()):
        for query, point in enumerate(row):
            target = learned[image][point]
            if target < 0:
                continue
            xy = (float(output.points.xy[point, 0]), float(output.points.xy[point, 1]))
            stride = float(output.points.strides[point])
            true = [side / stride for side in sides(xy, boxes[image][target])]
            mine = output.distances[image, query].tolist()
            inside = (min(mine[0], true[0]) + min(mine[2], true[2])) * (min(mine[1], true[1]) + min(mine[3], true[3]))
            hull = (max(mine[0], true[0]) + max(mine[2], true[2])) * (max(mine[1], true[1]) + max(mine[3], true[3]))
            union = (mine[0] + mine[2]) * (mine[1] + mine[3]) + (true[0] + true[2]) * (true[1] + true[3]) - inside
            giou = 1 - ((inside + 1) / (union + 1) - (hull - union) / hull)
            centre = math.sqrt(min(true[::2]) / max(true[::2]) * min(true[1::2]) / max(true[1::2]))
            logit = float(output.logits[image, query, int(targets.labels[image, target])])
            cost = 2 * giou - (centre + 1e-6) / (1 + math.exp(-logit))
            facts = (cost, query, giou, centre, float(output.centreness[image, query]))
            candidates.setdefault((image, target), []).append(facts)
    best = {(image, min(each)[1]): target for (image, target), each in candidates.items()}
    others = {(image, fact[1]): target for (image, target), each in candidates.items() for fact in each}
    classes = 0.0
    for image in range(len(learned)):
        for query in range(output.chosen.shape[1]):
            learns, could = best.get((image, query), -1), others.get((image, query), -1)
            for label, logit in enumerate(output.logits[image, query].tolist()):
                is_true = learns >= 0 and label == int(targets.labels[image, learns])
                weight = 0.1 if learns < 0 <= could and label == int(targets.labels[image, could]) else 1.0
                classes += weight * focal(logit, is_true=is_true)
    every = [fact for each in candidates.values() for fact in each]
    centreness = sum(
        centre * math.log1p(math.exp(-x)) + (1 - centre) * math.log1p(math.exp(x)) for *_, centre, x in every
    )
    return {
        "cells": cells / max(num_learning, 1),
        "classification": classes / (2 * (max(len(best), 1) + 0.1 * max(len(every), 1))),
        "giou": sum(giou * centre for _, _, giou, centre, _ in every) / max(sum(fact[3] for fact in every), 1e-6),
        "centreness": centreness / max(len(every), 1),
    }


@torch.no_grad()
@pytest.mark.parametrize("targets", [TARGETS, NOTHING], ids=["objects", "nothing"])
@pytest.mark.parametrize("proposals", [12, 700])
def test_losses_are_those_that_loops_compute(targets: Targets, proposals: int) -> None:
    output = output_of(detector(proposals=proposals), targets)
    report = TspFcosCriterion()(output, targets, num_boxes=1.0)
    expected = losses_in_loops(output, targets)
    assert {name: float(report[f"loss_{name}"]) for name in expected} == pytest.approx(expected, rel=2e-4, abs=1e-6)
    assert float(report["loss"]) == pytest.approx(sum(expected.values()), rel=2e-4)
    if targets is TARGETS:
        assert min(expected.values()) > 0


def test_an_object_is_learned_by_one_point_and_the_others_are_hardly_told_otherwise() -> None:
    output = output_of(detector(dropped=0.0), TARGETS)
    assert output.assigned is not None
    output.logits.retain_grad()
    TspFcosCriterion()(output, TARGETS, num_boxes=1.0)["loss"].backward()
    image, query = torch.where(output.assigned.gather(1, output.chosen) >= 0)
    target = output.assigned.gather(1, output.chosen)[image, query]
    assert output.logits.grad is not None
    gradient = output.logits.grad[image, query, TARGETS.labels[image, target]]
    assert len(gradient) > 8
    assert int((gradient < 0).sum()) == len({*zip(image.tolist(), target.tolist(), strict=True)})


def test_boxes_around_one_point_overlap_as_in_the_example() -> None:
    a, b = torch.ones(1, 4), torch.full((1, 4), 2.0)
    assert float(giou_loss_of_distances(a, b)) == pytest.approx(1 - (5 / 17 - 0 / 16))


def test_points_that_learn_something_are_half_way_to_certainty() -> None:
    logits = torch.tensor([[[0.0, -9.0], [2.0, 1.0]]])
    found = interest(logits, learned=torch.tensor([[0, -1]]))
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.8807971]]))
    torch.testing.assert_close(interest(logits, learned=None), torch.tensor([[0.5, 0.8807971]]))


def test_the_same_ranks_are_left_out_in_every_image_and_by_the_seed_alone() -> None:
    ours = detector(proposals=40)
    every = detector(proposals=40, dropped=0.0)
    ranks = []
    for seed in (3, 3, 4):
        chosen, all_chosen = output_of(ours, TARGETS, seed=seed).chosen, output_of(every, TARGETS, seed=seed).chosen
        of_images = [
            [row.tolist().index(place) for place in kept.tolist()]
            for kept, row in zip(chosen, all_chosen.sort(dim=1).values, strict=True)
        ]
        assert chosen.shape[1] < 40
        assert [len(set(each)) for each in of_images] == [chosen.shape[1]] * 2
        ranks.append(chosen.tolist())
    assert ranks[0] == ranks[1] != ranks[2]


def test_nothing_is_left_out_when_nothing_is_learned() -> None:
    ours = detector(proposals=40).eval()
    output = ours(*images(), TARGETS)
    assert output.chosen.shape == (2, 40)
    assert output.assigned is None


def test_masks_are_halved_from_the_batch_to_the_maps_of_the_padded_one() -> None:
    is_padding = torch.zeros(2, 21, 40, dtype=torch.bool)
    is_padding[1, :, 17:] = True
    maps = tuple(torch.zeros(2, 1, height, width) for height, width in ((3, 6), (2, 3), (1, 2)))
    masks = [*level_masks(is_padding, maps, strides=(8, 16, 32))]
    # 40 columns become 20 by every second one, 12 of stride 4 in a batch of 48, then 6, 3 and 2.
    columns = [[2 * (column * 20 // 12) for column in range(12)]]
    columns += [[columns[-1][2 * place] for place in range(6)]]
    columns += [[columns[-1][2 * place] for place in range(3)]]
    columns += [[columns[-1][place * 3 // 2] for place in range(2)]]
    for mask, of_level in zip(masks, columns[1:], strict=True):
        assert not mask[0].any()
        assert mask[1, 0].tolist() == [column >= 17 for column in of_level]


def test_objects_outside_of_their_image_are_not_found() -> None:
    ours = detector().eval()
    output = ours(*images())
    for found in ours.found(output, limit=1000):
        corners = cxcywh_to_xyxy(found.boxes_cxcywh)
        assert len(corners) > 5
        assert (corners[:, 2:] > corners[:, :2]).all()
        assert corners.min() >= -1e-6
        assert corners.max() <= 1 + 1e-6


def test_classes_that_are_left_out_still_help_to_choose_points() -> None:
    ours = detector(proposals=10).eval()
    before = ours(*images()).chosen
    ours.keep_classes([1])
    assert torch.equal(ours(*images()).chosen, before)


def test_all_layers_of_a_new_encoder_are_alike() -> None:
    layers = TspFcosConfig(**{**vars(tiny(TspFcosConfig)), "encoder_layers": 2}).build(num_classes=2).encoder.layers
    for first, second in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        assert torch.equal(first, second)
        assert first is not second


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dim": 100}, "detector.dim must be a multiple of 32, got 100"),
        ({"hidden_dim": 30, "num_heads": 4}, "detector.hidden_dim must be a multiple of 4 and of detector.num_heads"),
    ],
)
def test_widths_that_cannot_be_divided_are_refused(settings: dict[str, int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        TspFcosConfig(**{**vars(tiny(TspFcosConfig)), **settings}).build(num_classes=2, pretrained=False)
