"""Every detector that settings can name keeps every promise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from condetr.config import dump, from_mapping
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalCrossAttention, ConditionalSelfAttention
from condetr.engine.optim import OptimizerConfig, Optimizers
from condetr.engine.overfit import without_dropout
from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel, load_model, save_model
from condetr.interop.convert import export
from condetr.interop.loading import load
from condetr.interop.official import write_official
from condetr.labels import Category, LabelMap
from condetr.layers.attention import MultiHeadAttention
from condetr.layers.deformable import DeformableAttention
from condetr.layers.mlp import FeedForward
from condetr.shapes import DetectorOutput, Output, Targets

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))
LAYERS = (
    *(MultiHeadAttention, ConditionalSelfAttention, ConditionalCrossAttention, DeformableAttention),
    FeedForward,
)
"""Whose matrices are between features."""


def images() -> tuple[torch.Tensor, torch.Tensor]:
    is_padding = torch.zeros(2, 32, 48, dtype=torch.bool)
    is_padding[1, :, 32:] = True
    return torch.randn(2, 3, 32, 48) * ~is_padding[:, None], is_padding


def losses(detector: nn.Module, config: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
    targets = Targets.of(
        [
            (torch.tensor([0, 1]), torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.2, 0.3, 0.1, 0.1]])),
            (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)),
        ]
    )
    output: Output = detector(*images(), targets)
    return config.build_criterion()(output, targets, num_boxes=2.0)  # type: ignore[no-any-return]


def test_a_decoder_predicts_from_every_layer(config: Any) -> None:  # noqa: ANN401
    output = config.build(num_classes=2)(*images())
    if not isinstance(output, DetectorOutput):
        pytest.skip("no decoder")
    assert len(output.sets) == 2
    for _, layer, *_ in output.sets:
        assert layer.logits.shape[:2] == layer.boxes_cxcywh.shape[:2] == (2, 5)
        assert ((layer.boxes_cxcywh >= 0) & (layer.boxes_cxcywh <= 1)).all()


def test_it_says_what_is_where_before_anything_is_chosen(config: Any) -> None:  # noqa: ANN401
    logits, boxes_cxcywh = config.build(num_classes=2).eval()(*images()).final
    assert logits.shape[:-1] == boxes_cxcywh.shape[:-1]
    assert logits.shape[-1] in (2, 3)
    assert boxes_cxcywh.isfinite().all()


def test_it_finds_at_most_as_much_as_it_is_asked_for_and_the_best_first(config: Any) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2).eval()
    output = detector(*images())
    all_found, three = detector.found(output, limit=detector.most_objects), detector.found(output, limit=3)
    for found, best in zip(all_found, three, strict=True):
        assert 3 == len(best.scores) <= len(found.scores) <= detector.most_objects * 2
        torch.testing.assert_close(best, type(best)(*(each[:3] for each in found)))
        assert (found.scores.diff() <= 0).all()
        assert set(found.labels.tolist()) <= {0, 1}


def test_it_finds_only_the_classes_that_are_kept(config: Any) -> None:  # noqa: ANN401
    detector = config.build(num_classes=4).eval()
    batch = images()
    every = detector.found(detector(*batch), limit=10_000)
    detector.keep_classes([3, 1])
    kept = detector.found(detector(*batch), limit=10_000)
    for before, after in zip(every, kept, strict=True):
        assert set(after.labels.tolist()) <= {0, 1}
        for old, new in ((3, 0), (1, 1)):
            # Where a query has its best class alone, more queries may have this one now.
            score, among = before.scores[before.labels == old], after.scores[after.labels == new]
            assert len(among) >= len(score)
            assert all((among - each).abs().min() < 1e-5 for each in score)


def test_every_parameter_gets_a_finite_gradient(config: Any) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2).train()
    losses(detector, config)["loss"].backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_nothing_in_it_leaves_the_range_of_fp16(config: Any) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2).train()
    with torch.autocast("cpu", dtype=torch.float16):
        loss = losses(detector, config)["loss"]
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in detector.parameters() if parameter.grad is not None)


def test_it_learns_the_batch_that_it_sees(config: Any) -> None:  # noqa: ANN401
    torch.manual_seed(0)
    detector = without_dropout(config.build(num_classes=2).train())
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    seen = []
    for _ in range(30):
        torch.manual_seed(1)
        loss = losses(detector, config)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.item())
    assert seen[-1] < 0.8 * seen[0]


def test_muon_has_matrices_between_features_and_the_rest_is_adamws(config: Any) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2)
    try:
        optimizer = OptimizerConfig(kind="muon").build(detector)
    except InputError:
        assert not [module for module in detector.modules() if isinstance(module, FeedForward)]
        return
    assert isinstance(optimizer, Optimizers)
    parts = {
        name: [id(parameter) for group in part.param_groups for parameter in group["params"]]
        for name, part in optimizer.parts.items()
    }
    trainable = {id(parameter): name for name, parameter in detector.named_parameters() if parameter.requires_grad}
    assert sorted(parts["adamw"] + parts["muon"]) == sorted(trainable)
    expected = set()
    for path, module in detector.named_modules():
        layer = path.rpartition(".")[0]
        if isinstance(module, nn.Linear) and type(detector.get_submodule(layer)) in LAYERS:
            expected.add(f"{path}.weight")
        if isinstance(module, MultiHeadAttention):
            expected.add(f"{path}.in_proj_weight")
    expected = {name for name in expected if "sampling_offsets" not in name and "attention_weights" not in name}
    assert {trainable[each] for each in parts["muon"]} == expected


def test_its_settings_survive_a_file(config: Any) -> None:  # noqa: ANN401
    assert from_mapping(type(config), dump(config), source="test") == config


def test_a_saved_detector_finds_the_same_again(config: Any, tmp_path: Path) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2).eval()
    save_model(tmp_path / "best", detector, detector_config=config, transform=LightTransformConfig(), label_map=LABELS)
    again = load_model(tmp_path / "best")
    assert again.detector_config == config
    assert again.label_map == LABELS
    batch = images()
    torch.testing.assert_close(again.detector(*batch).final.logits, detector(*batch).final.logits)


def test_a_picture_becomes_detections_in_its_pixels(config: Any, tmp_path: Path) -> None:  # noqa: ANN401
    save_model(
        tmp_path,
        config.build(num_classes=2),
        detector_config=config,
        transform=LightTransformConfig(),
        label_map=LABELS,
    )
    found = load(tmp_path).predict(np.zeros((40, 60, 3), dtype=np.uint8), threshold=0.0)
    assert 0 < len(found) <= 100
    assert set(found.names) <= {"bolt", "nut"}
    assert (np.diff(found.scores) <= 0).all()
    assert found.sources is not None
    assert len(set(found.sources.tolist())) == len(found), "a query, a point or a region has one name"


def test_it_becomes_a_graph_for_other_programs_only_if_they_can_read_it(config: Any, tmp_path: Path) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2).eval()
    if detector.score_function is not None:
        pytest.skip("they can")
    with pytest.raises(InputError, match=r"x\.onnx: what .* stays in condetr's own format"):
        export(tmp_path / "x.onnx", LoadedModel(detector, config, LightTransformConfig(), LABELS))
    with pytest.raises(InputError, match=r"condetr does not write .* for the official code, only in its own format"):
        write_official(tmp_path / "x.pth", LoadedModel(detector, config, LightTransformConfig(), LABELS))
    assert list(tmp_path.iterdir()) == []
