import dataclasses
import re
from typing import get_args

import pytest
import torch

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.conditional_detr import (
    PUBLISHED,
    ConditionalDetr,
    ConditionalDetrConfig,
    SpatialQuery,
    Transformation,
)
from condetr.detectors.published import original_name
from condetr.layers.attention import DotProductAttention
from condetr.layers.queries import Reference
from condetr.shapes import DetectorOutput, Targets
from tests.tiny import TINY

CONFIG = ConditionalDetrConfig(**TINY | {"decoder_layers": 3})
TARGETS = Targets.of([(torch.tensor([0]), torch.tensor([[0.5, 0.5, 0.2, 0.3]]))] * 2)


def build(**changes: object) -> ConditionalDetr:
    torch.manual_seed(0)
    return dataclasses.replace(CONFIG, **changes).build(num_classes=3).eval()  # type: ignore[arg-type]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    is_padding = torch.zeros(2, 32, 40, dtype=torch.bool)
    is_padding[1, 24:] = True
    return torch.randn(2, 3, 32, 40), is_padding


@pytest.mark.parametrize(
    ("depth", "dilation", "total", "trainable", "entries"),
    [
        (50, False, 43_418_401, 43_196_001, 564),
        (50, True, 43_418_401, 43_196_001, 564),
        (101, False, 62_358_305, 62_135_905, 819),
    ],
)
def test_parameter_counts_are_the_published_ones(
    depth: int,
    dilation: bool,  # noqa: FBT001
    total: int,
    trainable: int,
    entries: int,
) -> None:
    config = ConditionalDetrConfig(backbone=ResNetConfig(depth=depth, dilation=dilation))  # type: ignore[arg-type]
    with torch.device("meta"):
        detector = config.build(num_classes=91, pretrained=False)
    assert sum(p.numel() for p in detector.parameters()) == total
    assert sum(p.numel() for p in detector.parameters() if p.requires_grad) == trainable
    assert len(detector.state_dict()) == entries


def test_parts_have_the_published_sizes() -> None:
    with torch.device("meta"):
        detector = ConditionalDetrConfig().build(num_classes=91, pretrained=False)
    sizes = {
        "features.backbone": 23_454_912,
        "features.projection": 524_544,
        "query_embedding": 76_800,
        "encoder.layers.0": 1_315_072,
        "decoder.layers.0": 1_907_712,
        "decoder.layers.1": 1_841_920,
        "decoder.norm": 512,
        "decoder.spatial_query": 131_584,
        "reference_points": 66_306,
        "heads.class_head": 23_387,
        "heads.box_head": 132_612,
    }
    found = {name: sum(p.numel() for p in detector.get_submodule(name).parameters()) for name in sizes}
    assert found == sizes


def test_original_names_are_those_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        detector = ConditionalDetrConfig().build(num_classes=91, pretrained=False)
    names = {original_name(name, PUBLISHED.original_names) for name in detector.state_dict()}
    assert len(names) == 564
    decoder = r"transformer\.decoder\.layers\.[0-5]\."
    leaves = {re.sub(decoder, "", name) for name in names if re.match(decoder, name)}
    projections = {
        *(f"sa_{name}_proj" for name in ("qcontent", "qpos", "kcontent", "kpos", "v")),
        *(f"ca_{name}_proj" for name in ("qcontent", "qpos", "kcontent", "kpos", "v", "qpos_sine")),
        *("self_attn.out_proj", "cross_attn.out_proj", "linear1", "linear2", "norm1", "norm2", "norm3"),
    }
    assert leaves == {f"{name}.{kind}" for name in projections for kind in ("weight", "bias")}
    assert [name for name in names if "ca_qpos_proj.weight" in name] == [
        "transformer.decoder.layers.0.ca_qpos_proj.weight"
    ]
    assert {"class_embed.bias", "bbox_embed.layers.2.weight", "backbone.0.body.layer4.2.bn3.running_var"} <= names
    assert {f"transformer.decoder.{part}.layers.1.bias" for part in ("query_scale", "ref_point_head")} <= names


def test_a_fresh_detector_starts_at_its_reference_points() -> None:
    detector = build(num_queries=400)
    images, is_padding = batch()
    output = detector(images, is_padding)
    reference_xy = detector.reference_points(detector.query_embedding.weight.expand(2, -1, -1))
    for _, layer, *_ in output.sets:
        torch.testing.assert_close(layer.boxes_cxcywh[..., :2], reference_xy)
        torch.testing.assert_close(layer.boxes_cxcywh[..., 2:], torch.full_like(reference_xy, 0.5))
    assert output.final.logits.sigmoid().mean().item() == pytest.approx(0.01, abs=0.01)
    assert detector.query_embedding.weight.std().item() == pytest.approx(1, abs=0.05)
    assert not detector.get_parameter("heads.box_head.layers.2.weight").any()


def test_gradient_of_the_first_layers_boxes_reaches_queries_and_reference_points() -> None:
    detector = build()
    output = detector(*batch())
    output.sets[0].prediction.boxes_cxcywh.sum().backward()
    for name in ("query_embedding.weight", "reference_points.head.layers.0.weight"):
        parameter = detector.get_parameter(name)
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_content_and_spatial_logits_add_up_to_the_combined_ones() -> None:
    detector = build()
    attention = detector.get_submodule("decoder.layers.1.cross_attention.attend")
    assert isinstance(attention, DotProductAttention)
    seen: list[tuple[torch.Tensor, ...]] = []
    attention.register_forward_pre_hook(lambda _, inputs: seen.append((*inputs[0], *inputs[1], inputs[2])))
    outputs: list[torch.Tensor] = []
    attention.register_forward_hook(lambda _, __, output: outputs.append(output))
    images, is_padding = batch()
    detector(images, torch.zeros_like(is_padding))
    c_q, s_q, c_k, s_k, value = (attention.split_heads(part) for part in seen[0])
    content, spatial = (q @ k.mT / 16**0.5 for q, k in ((c_q, c_k), (s_q, s_k)))
    combined = ((content + spatial).softmax(-1) @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(outputs[0], combined)


def test_padding_pixels_do_not_change_the_result() -> None:
    detector = build()
    images, is_padding = batch()
    elsewhere = images.clone()
    elsewhere[1, :, 32:] = 7.0
    is_padding[1, 24:] = True
    torch.testing.assert_close(
        detector(images, is_padding).final.boxes_cxcywh[0], detector(elsewhere, is_padding).final.boxes_cxcywh[0]
    )


@pytest.mark.parametrize("transformation", get_args(Transformation))
@pytest.mark.parametrize("spatial_query", get_args(SpatialQuery))
def test_every_variant_of_the_spatial_query_trains(spatial_query: str, transformation: str) -> None:
    detector = build(spatial_query=spatial_query, transformation=transformation).train()
    output = detector(*batch())
    (output.final.logits.sum() + output.final.boxes_cxcywh.sum()).backward()
    unused = [name for name, parameter in detector.named_parameters() if parameter.grad is None]
    assert unused == []


@pytest.mark.parametrize("reference", get_args(Reference))
def test_every_reference_point_is_inside_the_image(reference: str) -> None:
    detector = build(reference=reference)
    points = detector.reference_points(detector.query_embedding.weight[None])
    assert points.shape == (1, 5, 2)
    assert ((points > 0) & (points < 1)).all()


def test_identity_and_full_transformations_agree_where_full_is_the_identity() -> None:
    full = build(transformation="full").decoder.spatial_query
    torch.nn.init.zeros_(full.get_parameter("transformation.layers.1.weight"))
    full.get_parameter("transformation.layers.1.bias").data = torch.eye(16).flatten()
    p_s = torch.randn(1, 5, 16)
    embedding = torch.randn(1, 5, 16)
    torch.testing.assert_close(full(embedding, content=embedding, p_s=p_s, is_first=False), p_s)


def grouped_and_single(group: int) -> tuple[ConditionalDetr, ConditionalDetr]:
    """Return a detector of three groups of queries in training, and one that has only the given group of them."""
    grouped, single = build(query_groups=3, dropout=0.0).train(), build(dropout=0.0).train()
    state = grouped.state_dict()
    state["query_embedding.weight"] = state["query_embedding.weight"].view(3, 5, -1)[group]
    single.load_state_dict(state)
    return grouped, single


@pytest.mark.parametrize("group", range(3))
def test_a_group_of_queries_predicts_as_if_it_were_alone(group: int) -> None:
    grouped, single = grouped_and_single(group)
    images = batch()
    together, alone = grouped(*images), single(*images)
    by_layer = [together.sets[first : first + 3][::-1] for first in (0, 3, 6)]
    for layer, expected in zip(by_layer, alone.sets, strict=True):
        torch.testing.assert_close(layer[group].prediction, expected.prediction)


def test_detection_uses_the_first_group_alone() -> None:
    grouped, single = grouped_and_single(0)
    images = batch()
    found = grouped.eval()(*images)
    expected = single.eval()(*images)
    assert len(found.sets) == len(expected.sets) == 3
    for ours, theirs in zip(found.sets, expected.sets, strict=True):
        torch.testing.assert_close(ours.prediction, theirs.prediction)


def test_the_loss_of_groups_is_their_mean() -> None:
    images, criterion = batch(), CONFIG.build_criterion()
    losses = [
        criterion(detector(*images), TARGETS, num_boxes=2.0)["loss"]
        for detector in (grouped_and_single(0)[0], *(grouped_and_single(group)[1] for group in range(3)))
    ]
    torch.testing.assert_close(losses[0], torch.stack(losses[1:]).mean())


def test_denoising_leaves_detection_and_its_gradients_as_they_are() -> None:
    plain, denoising = build(dropout=0.0).train(), build(dropout=0.0, denoising_groups=2).train()
    denoising.load_state_dict(plain.state_dict(), strict=False)
    images = batch()
    with_aid, without = denoising(*images, TARGETS), plain(*images, TARGETS)
    restored, rest = with_aid.sets[:3], with_aid.sets[3:]
    for ours, expected in zip(rest, without.sets, strict=True):
        torch.testing.assert_close(ours.prediction, expected.prediction)
    assert [each.known is not None and len(each.known.query) for each in restored] == [4, 4, 4]
    assert [each.known for each in denoising.eval()(*images, TARGETS).sets] == [None] * 3


def test_restoring_targets_teaches_the_decoder() -> None:
    detector, criterion = build(denoising_groups=2).train(), CONFIG.build_criterion()
    output = detector(*batch(), TARGETS)
    with_aid, without = (
        criterion(found, TARGETS, num_boxes=2.0)["loss"] for found in (output, DetectorOutput(output.sets[3:]))
    )
    (with_aid - without).backward()
    assert detector.denoising is not None
    for name, parameter in [*detector.decoder.named_parameters(), *detector.denoising.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert not detector.query_embedding.weight.grad.any()  # type: ignore[union-attr]


def test_denoising_has_gradients_even_where_no_image_has_a_target() -> None:
    detector, targets = build(denoising_groups=2).train(), Targets.none(2)
    CONFIG.build_criterion()(detector(*batch(), targets), targets, num_boxes=1.0)["loss"].backward()
    assert all(parameter.grad is not None for parameter in detector.parameters())
