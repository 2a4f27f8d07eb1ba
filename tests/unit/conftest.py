"""A training that takes a second."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.engine.config import DataConfig, TrainConfig
from condetr.engine.optim import EmaConfig
from condetr.scenes.shapes import write_scenes
from tests.tiny import TINY

Config = Callable[..., TrainConfig]


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of twelve scenes."""
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    write_scenes(folder, num_images=8, val_images=4, seed=2, size=64)
    return folder


@pytest.fixture
def tiny(scenes: Path) -> Config:
    """Return the settings of the smallest training, with changes."""

    def make(**changes: object) -> TrainConfig:
        config = TrainConfig(
            detector=ConditionalDetrConfig(**TINY),
            data=DataConfig(path=str(scenes), transform=LightTransformConfig(), batch_size=4, workers=0),
            ema=EmaConfig(decay=0.9),
            epochs=3,
            precision="32-true",
            loggers=(),
        )
        return replace(config, **changes)  # type: ignore[arg-type]

    return make
