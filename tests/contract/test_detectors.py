"""Every detector that settings can name keeps every promise."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from condetr.config import dump, from_mapping
from condetr.data.transforms import LightTransformConfig
from condetr.inference.model_folder import load_model, save_model
from condetr.interop.loading import load
from condetr.labels import Category, LabelMap
from condetr.shapes import DetectorOutput, Targets

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))


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
    output: DetectorOutput = detector(*images(), targets)
    return config.build_criterion()(output, targets, num_boxes=2.0)  # type: ignore[no-any-return]


def test_it_predicts_from_every_decoder_layer(config: Any) -> None:  # noqa: ANN401
    output = config.build(num_classes=2)(*images())
    assert len(output.sets) == 2
    for _, layer, *_ in output.sets:
        assert layer.logits.shape[:2] == layer.boxes_cxcywh.shape[:2] == (2, 5)
        assert ((layer.boxes_cxcywh >= 0) & (layer.boxes_cxcywh <= 1)).all()


def test_every_parameter_gets_a_finite_gradient(config: Any) -> None:  # noqa: ANN401
    detector = config.build(num_classes=2).train()
    losses(detector, config)["loss"].backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_it_learns_the_batch_that_it_sees(config: Any) -> None:  # noqa: ANN401
    torch.manual_seed(0)
    detector = dataclasses.replace(config, dropout=0.0).build(num_classes=2).train()
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
    assert 0 < len(found) <= 10
    assert set(found.names) <= {"bolt", "nut"}
    assert (np.diff(found.scores) <= 0).all()
