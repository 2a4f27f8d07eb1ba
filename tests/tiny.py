"""Settings of the smallest detector that has every part; a test that is about some of them changes those."""

from dataclasses import fields
from typing import Any

from condetr.backbones.resnet import SmallResNetConfig

TINY: dict[str, Any] = {
    "backbone": SmallResNetConfig(widths=(4, 4), blocks=(1,)),
    "num_queries": 5,
    "dim": 16,
    "num_heads": 2,
    "feedforward_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
}


TINY_PYRAMID: dict[str, Any] = {"levels": 1, "dim": 32, "hidden_dim": 16, "score_threshold": 0.0}
"""Beside those of `TINY`, of detectors on a pyramid; whatever they predict is found."""


def tiny(kind: Any) -> Any:  # noqa: ANN401 - any of the registered settings
    """Return the settings of any detector at a tiny size."""
    known = {field.name for field in fields(kind)}
    sizes = TINY | TINY_PYRAMID if "levels" in known else TINY
    return kind(**{name: value for name, value in sizes.items() if name in known})
