"""A small detector of the published form, in each format."""

from pathlib import Path

import pytest
import torch

from condetr.backbones.resnet import ResNetConfig
from condetr.data.transforms import PaperTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.inference.model_folder import LoadedModel, write_model
from condetr.interop.classes import coco_classes
from condetr.interop.official import write_official
from condetr.interop.transformers_folder import write_transformers


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    """A detector of COCO's classes; treat it as read-only."""
    torch.manual_seed(0)
    config = ConditionalDetrConfig(
        backbone=ResNetConfig(depth=18),
        num_queries=5,
        dim=16,
        num_heads=2,
        feedforward_dim=8,
        encoder_layers=1,
        decoder_layers=1,
    )
    detector = config.build(num_classes=91, pretrained=False).eval()
    return LoadedModel(detector, config, PaperTransformConfig(), coco_classes())


@pytest.fixture
def official(model: LoadedModel, tmp_path: Path) -> Path:
    write_official(tmp_path / "official.pth", model)
    return tmp_path / "official.pth"


@pytest.fixture
def transformers(model: LoadedModel, tmp_path: Path) -> Path:
    (tmp_path / "transformers").mkdir()
    write_transformers(tmp_path / "transformers", model)
    return tmp_path / "transformers"


@pytest.fixture
def ours(model: LoadedModel, tmp_path: Path) -> Path:
    write_model(tmp_path / "ours", model)
    return tmp_path / "ours"
