"""The settings of every detector that there is."""

import typing
from typing import Any

import pytest

from condetr.detectors.registry import DetectorConfig
from tests.tiny import tiny

KINDS = typing.get_args(typing.get_args(DetectorConfig)[0])


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.__name__))
def config(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401 - any of the registered settings
    """Return the settings of each detector at a tiny size."""
    return tiny(request.param)
