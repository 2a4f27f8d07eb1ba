"""A detector small enough to build, save and run in a few milliseconds."""

from pathlib import Path

import pytest
import torch

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.inference.model_folder import LoadedModel, save_model
from condetr.labels import Category, LabelMap
from tests.tiny import TINY

LABELS = LabelMap((Category(3, "bolt"), Category(7, "nut")))


@pytest.fixture
def tiny() -> LoadedModel:
    torch.manual_seed(0)
    config = ConditionalDetrConfig(**TINY)
    return LoadedModel(config.build(num_classes=2).eval(), config, LightTransformConfig(), LABELS)


@pytest.fixture
def model_folder(tiny: LoadedModel, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    save_model(
        folder,
        tiny.detector,
        detector_config=tiny.detector_config,
        transform=tiny.transform,
        label_map=tiny.label_map,
    )
    return folder
