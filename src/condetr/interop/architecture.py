"""A detector's settings read off the shapes of its tensors, under the official names."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Literal, NamedTuple

from torch import Tensor

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.detr import DetrConfig
from condetr.detectors.registry import DetectorConfig
from condetr.errors import InputError

Tensors = Mapping[str, Tensor]

Depth = Literal[18, 34, 50, 101]

RESNET_DEPTHS: dict[tuple[str, int], Depth] = {
    ("basic", 2): 18,
    ("basic", 6): 34,
    ("bottleneck", 6): 50,
    ("bottleneck", 23): 101,
}
"""By the kind of block and the number of blocks in layer3."""


READ_OFF = (
    "backbone", "num_queries", "dim", "num_heads", "feedforward_dim", "encoder_layers", "decoder_layers", "dropout",
)  # fmt: skip
"""Settings that other libraries have too; all further ones have one value there, our default."""


class Unseen(NamedTuple):
    """What shapes do not show, the published models' values by default."""

    num_heads: int = 8
    dilation: bool = False
    dropout: float = 0.1


def read_architecture(tensors: Tensors, *, unseen: Unseen, source: str) -> DetectorConfig:
    """Return the settings of a Conditional DETR or DETR; raises InputError for any other model."""
    kind = _kind(tensors, source=source)
    num_queries, dim = _shape(tensors, "query_embed.weight", source=source)
    feedforward_dim, _ = _shape(tensors, "transformer.encoder.layers.0.linear1.weight", source=source)
    if unseen.num_heads < 1 or dim % unseen.num_heads:
        raise InputError(f"{source} has a width of {dim}, which {unseen.num_heads} heads cannot share")
    return kind(
        backbone=ResNetConfig(depth=_depth(tensors, source=source), dilation=unseen.dilation),
        num_queries=num_queries,
        dim=dim,
        num_heads=unseen.num_heads,
        feedforward_dim=feedforward_dim,
        encoder_layers=_count(tensors, r"transformer\.encoder\.layers\.(\d+)\."),
        decoder_layers=_count(tensors, r"transformer\.decoder\.layers\.(\d+)\."),
        dropout=unseen.dropout,
    )


def count_class_rows(tensors: Tensors, config: DetectorConfig, *, source: str) -> int:
    """Return the rows of the class head, "no object" not counted."""
    rows, _ = _shape(tensors, "class_embed.weight", source=source)
    return rows - (config.scores == "softmax")


def require_published_form(config: DetectorConfig, *, target: str) -> None:
    """Raise InputError if other libraries have no model of these settings."""
    plain = type(config)()
    deviations = [
        f"{field.name}={value}"
        for field in fields(config)
        if (value := getattr(config, field.name)) != getattr(plain, field.name) and field.name not in READ_OFF
    ]
    if not isinstance(config.backbone, ResNetConfig):
        deviations.append(f"backbone.kind={config.backbone.kind}")
    if deviations:
        raise InputError(f"{target} knows no detector with {', '.join(deviations)}; it stays in condetr's own format")


def _kind(tensors: Tensors, *, source: str) -> type[ConditionalDetrConfig] | type[DetrConfig]:
    if "transformer.decoder.ref_point_head.layers.0.weight" in tensors:
        return ConditionalDetrConfig
    if "transformer.decoder.layers.0.multihead_attn.out_proj.weight" in tensors:
        return DetrConfig
    first = next(iter(tensors), "nothing")
    segments = any(name.startswith(("detr.", "conditional_detr.")) for name in tensors)
    what = "a segmentation model" if segments else f"neither Conditional DETR nor DETR (it begins with {first!r})"
    raise InputError(f"{source} holds {what}; give weights of one of these two detectors")


def _shape(tensors: Tensors, name: str, *, source: str) -> tuple[int, int]:
    shape = tuple(tensors[name].shape) if name in tensors else ()
    if len(shape) != 2:
        raise InputError(f"{source} has no matrix {name}, which every DETR has; the file is incomplete")
    return shape[0], shape[1]


def _count(tensors: Tensors, pattern: str) -> int:
    return len({match[1] for match in map(re.compile(pattern).match, tensors) if match})


def _depth(tensors: Tensors, *, source: str) -> Depth:
    block = "bottleneck" if "backbone.0.body.layer1.0.conv3.weight" in tensors else "basic"
    blocks = _count(tensors, r"backbone\.0\.body\.layer3\.(\d+)\.")
    if (block, blocks) not in RESNET_DEPTHS:
        raise InputError(
            f"{source} has a backbone with {blocks} {block} blocks in layer3; known are ResNets of "
            f"{', '.join(map(str, RESNET_DEPTHS.values()))} layers"
        )
    return RESNET_DEPTHS[block, blocks]
