"""Settings of the smallest detector that has every part; a test that is about some of them changes those."""

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
