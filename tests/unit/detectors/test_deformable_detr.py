from typing import Any

import pytest
import torch
from torch import nn

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.deformable_detr import DeformableDetr, DeformableDetrConfig
from condetr.errors import InputError
from condetr.interop.original import published_form
from condetr.recipes.cost import cost_of
from condetr.shapes import DetectorOutput, Targets
from tests.tiny import TINY

REFINED, TWO_STAGE = {"box_refinement": True}, {"box_refinement": True, "two_stage": True}
VARIANTS: list[dict[str, Any]] = [{"num_levels": 1}, {}, REFINED, TWO_STAGE]
PARAMETERS: list[tuple[dict[str, Any], int]] = [
    ({"num_levels": 1}, 34_066_593),
    ({"num_levels": 1, "backbone": ResNetConfig(dilation=True)}, 34_066_593),
    ({}, 40_069_665),
    (REFINED, 40_849_660),
    (TWO_STAGE, 41_181_529),
]


def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Return two images, the second padded by a third."""
    is_padding = torch.zeros(2, 48, 48, dtype=torch.bool)
    is_padding[1, :, 32:] = True
    return torch.randn(2, 3, 48, 48) * ~is_padding[:, None], is_padding


def tiny(**changes: Any) -> DeformableDetr:  # noqa: ANN401
    return DeformableDetrConfig(**TINY | {"dropout": 0.0} | changes).build(num_classes=3)


def random_tiny(**changes: Any) -> DeformableDetr:  # noqa: ANN401
    """Return a detector whose boxes and points are moved, as a trained one's are."""
    detector = tiny(**changes).eval().requires_grad_(False)
    for module in detector.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
    return detector


def last_linear(detector: DeformableDetr, *, heads: int) -> nn.Linear:
    """Return the last layer of a box head."""
    last = detector.get_submodule(f"heads.{heads}.box_head.layers.2")
    assert isinstance(last, nn.Linear)
    return last


def wanted() -> Targets:
    labels, boxes_cxcywh = torch.tensor([1, 2]), torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.2, 0.3, 0.1, 0.1]])
    return Targets.of([(labels, boxes_cxcywh), (labels[:1], boxes_cxcywh[:1])])


@pytest.mark.parametrize(("changes", "parameters"), PARAMETERS)
def test_parameters_are_those_of_the_official_code(changes: dict[str, Any], parameters: int) -> None:
    assert cost_of(DeformableDetrConfig(**changes)).parameters == parameters


@pytest.mark.parametrize("changes", VARIANTS)
def test_boxes_begin_at_their_reference_and_classes_at_the_prior(changes: dict[str, Any]) -> None:
    detector = tiny(**changes)
    output: DetectorOutput = detector(*images())
    first = output.sets[-2].prediction
    assert first.logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.5)
    if detector.queries is not None:
        positions = detector.queries.embedding.weight[:, :16]
        points = detector.queries.reference_points(positions).sigmoid()
        torch.testing.assert_close(first.boxes_cxcywh[0, :, :2], points)
        sides = torch.tensor(-2.0).sigmoid().expand(2, 5, 2)
        torch.testing.assert_close(first.boxes_cxcywh[..., 2:], sides)


def test_only_the_first_of_several_heads_begins_with_small_boxes() -> None:
    detector = tiny(**REFINED)
    assert [last_linear(detector, heads=each).bias[2:].tolist() for each in (0, 1)] == [[-2, -2], [0, 0]]


@torch.no_grad()
def test_a_refined_box_is_an_offset_from_the_box_before_it() -> None:
    detector = random_tiny(**REFINED)
    last = last_linear(detector, heads=1)
    last.weight.zero_()
    last.bias.copy_(torch.tensor([0, 0, 1, 1]))
    output: DetectorOutput = detector(*images())
    before, after = (each.prediction.boxes_cxcywh.logit() for each in output.sets)
    torch.testing.assert_close(after - before, last.bias.expand_as(after), atol=1e-4, rtol=0)


def test_no_gradient_flows_from_a_box_to_the_boxes_before_it() -> None:
    detector = tiny(**REFINED)
    output: DetectorOutput = detector(*images())
    output.final.boxes_cxcywh.sum().backward()
    assert last_linear(detector, heads=0).bias.grad is None
    assert last_linear(detector, heads=1).bias.grad is not None


def test_proposals_are_learned_of_every_cell_and_tell_objects_alone() -> None:
    output: DetectorOutput = tiny(**TWO_STAGE)(*images())
    proposals, *layers = output.sets
    assert proposals.class_agnostic
    assert not any(each.class_agnostic for each in layers)
    assert proposals.prediction.logits.shape == (2, 12 * 12 + 6 * 6 + 3 * 3 + 2 * 2, 3)


@torch.no_grad()
def test_queries_are_made_of_the_proposals_whose_first_class_scores_highest() -> None:
    detector = random_tiny(**TWO_STAGE)
    proposal = detector(*images()).sets[0].prediction
    assert detector.proposals is not None
    queries = detector.proposals.queries(proposal)
    best = proposal.logits[0, :, 0].argsort(descending=True)[:5]
    torch.testing.assert_close(queries.reference[0], proposal.boxes_cxcywh[0, best])


def test_an_image_of_fewer_cells_than_queries_has_fewer_queries() -> None:
    detector = tiny(**TWO_STAGE, num_queries=100)
    output: DetectorOutput = detector(torch.zeros(1, 3, 16, 16), torch.zeros(1, 16, 16, dtype=torch.bool))
    assert output.final.logits.shape == (1, 4 * 4 + 2 * 2 + 1 + 1, 3)


def test_proposals_without_refinement_are_refused() -> None:
    with pytest.raises(InputError, match=r"set detector\.box_refinement=true"):
        tiny(two_stage=True)


def test_keeping_classes_leaves_what_is_proposed() -> None:
    detector = random_tiny(**TWO_STAGE)
    batch = images()
    before: DetectorOutput = detector(*batch)
    detector.keep_classes([2, 0])
    after: DetectorOutput = detector(*batch)
    torch.testing.assert_close(after.final.logits, before.final.logits[..., [2, 0]])
    torch.testing.assert_close(after.final.boxes_cxcywh, before.final.boxes_cxcywh)


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_memory_of_valid_cells_does_not_depend_on_padding(changes: dict[str, Any]) -> None:
    detector = random_tiny(**changes)
    pixels, is_padding = images()
    levels = detector.features(pixels, is_padding)
    noise = torch.randn_like(levels.features) * levels.is_padding[..., None]
    plain, noised = (
        detector.encoder(levels._replace(features=features))[~levels.is_padding]
        for features in (levels.features, levels.features + noise)
    )
    torch.testing.assert_close(plain, noised)


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_variant_learns_the_batch_that_it_sees(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = DeformableDetrConfig(**TINY, dropout=0.0, **changes)
    detector, criterion = config.build(num_classes=3).train(), config.build_criterion()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    batch, seen = images(), []
    for _ in range(40):
        loss = criterion(detector(*batch), wanted(), num_boxes=3.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert all(parameter.grad is not None for parameter in detector.parameters())
    assert seen[-1] < 0.7 * seen[0]


def test_points_stay_exact_in_half_precision() -> None:
    detector, batch = random_tiny(), images()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output: DetectorOutput = detector(*batch)
    exact: DetectorOutput = detector(*batch)
    assert output.final.boxes_cxcywh.dtype == torch.float32
    torch.testing.assert_close(output.final.boxes_cxcywh, exact.final.boxes_cxcywh, atol=0.05, rtol=0)


def test_two_levels_have_no_published_form() -> None:
    for num_levels in (1, 3, 5):
        assert published_form(DeformableDetrConfig(num_levels=num_levels), target="it").title == "Deformable DETR"
    with pytest.raises(InputError, match="it has no detector with num_levels=2; only condetr's own format"):
        published_form(DeformableDetrConfig(num_levels=2), target="it")
