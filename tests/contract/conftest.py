"""The settings of every detector that there is."""

import typing
from typing import Any

import pytest

from condetr.backbones.resnet import SmallResNetConfig
from condetr.detectors.registry import DetectorConfig

KINDS = typing.get_args(typing.get_args(DetectorConfig)[0])


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.__name__))
def config(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401 - any of the registered settings
    """Return the settings of each detector at a tiny size."""
    return request.param(
        backbone=SmallResNetConfig(widths=(4, 4), blocks=(1,)),
        num_queries=5,
        dim=16,
        num_heads=2,
        feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
    )
