"""Common parts of the official checkpoints of DETR-like detectors: tensor names, and settings that shapes show."""

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.published import Checkpoint, Reading
from condetr.errors import InputError

ORIGINAL_NAMES = (
    (r"^features\.backbone\.body\.", "backbone.0.body."),
    (r"^features\.projection\.", "input_proj."),
    (r"^query_embedding\.", "query_embed."),
    (r"^heads\.class_head\.", "class_embed."),
    (r"^heads\.box_head\.", "bbox_embed."),
    (r"^(encoder|decoder)\.", r"transformer.\1."),
    (r"\.feedforward\.", "."),
    (r"\.self_attention_norm\.", ".norm1."),
    (r"\.cross_attention_norm\.", ".norm2."),
    (r"(\.encoder\.layers\.\d+)\.feedforward_norm\.", r"\1.norm2."),
    (r"(\.decoder\.layers\.\d+)\.feedforward_norm\.", r"\1.norm3."),
    (r"\.self_attention\.(in_proj_weight|in_proj_bias|out_proj)", r".self_attn.\1"),
)

ARGUMENTS = {
    "enc_layers": "encoder_layers",
    "dec_layers": "decoder_layers",
    "dim_feedforward": "feedforward_dim",
    "hidden_dim": "dim",
    "dropout": "dropout",
    "nheads": "num_heads",
    "num_queries": "num_queries",
}
"""Arguments of the official code, and the corresponding settings in condetr."""

TRANSFORMERS_SETTINGS = {
    "num_queries": "num_queries",
    "d_model": "dim",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "encoder_attention_heads": "num_heads",
    "decoder_attention_heads": "num_heads",
    "encoder_ffn_dim": "feedforward_dim",
    "decoder_ffn_dim": "feedforward_dim",
    "dropout": "dropout",
    # 0 by default; the official code applies dropout there as well.
    "attention_dropout": "dropout",
    "activation_dropout": "dropout",
}

TRANSFORMERS_MODULES = {
    "input_proj": "model.input_projection",
    "query_embed": "model.query_position_embeddings",
    "class_embed": "class_labels_classifier",
    "bbox_embed.layers.*": "bbox_predictor.layers.*",
    "transformer.encoder.layers.*.self_attn.out_proj": "model.encoder.layers.*.self_attn.out_proj",
    "transformer.encoder.layers.*.linear1": "model.encoder.layers.*.fc1",
    "transformer.encoder.layers.*.linear2": "model.encoder.layers.*.fc2",
    "transformer.encoder.layers.*.norm1": "model.encoder.layers.*.self_attn_layer_norm",
    "transformer.encoder.layers.*.norm2": "model.encoder.layers.*.final_layer_norm",
    "transformer.decoder.layers.*.self_attn.out_proj": "model.decoder.layers.*.self_attn.out_proj",
    "transformer.decoder.layers.*.linear1": "model.decoder.layers.*.fc1",
    "transformer.decoder.layers.*.linear2": "model.decoder.layers.*.fc2",
    "transformer.decoder.layers.*.norm1": "model.decoder.layers.*.self_attn_layer_norm",
    "transformer.decoder.layers.*.norm2": "model.decoder.layers.*.encoder_attn_layer_norm",
    "transformer.decoder.layers.*.norm3": "model.decoder.layers.*.final_layer_norm",
    "transformer.decoder.norm": "model.decoder.layernorm",
}
TRANSFORMERS_FUSED = {"transformer.encoder.layers.*.self_attn": "model.encoder.layers.*.self_attn"}

Depth = Literal[18, 34, 50, 101]

RESNET_DEPTHS: dict[tuple[str, int], Depth] = {
    ("basic", 2): 18,
    ("basic", 6): 34,
    ("bottleneck", 6): 50,
    ("bottleneck", 23): 101,
}
"""ResNet depths by the kind of block and the number of blocks in layer3."""


def read_settings(checkpoint: Checkpoint) -> Reading:
    """Derive the settings of a DETR-like detector from its tensors; raises InputError if that is impossible."""
    tensors, unseen, source = checkpoint
    num_queries, dim = matrix_shape(tensors, "query_embed.weight", source=source)
    feedforward_dim, _ = matrix_shape(tensors, "transformer.encoder.layers.0.linear1.weight", source=source)
    require_shared(dim, num_heads=unseen.num_heads, source=source)
    settings = {
        "backbone": ResNetConfig(depth=resnet_depth(tensors, source=source), dilation=unseen.dilation),
        "num_queries": num_queries,
        "dim": dim,
        "num_heads": unseen.num_heads,
        "feedforward_dim": feedforward_dim,
        "encoder_layers": count_layers(tensors, r"transformer\.encoder\.layers\.(\d+)\."),
        "decoder_layers": count_layers(tensors, r"transformer\.decoder\.layers\.(\d+)\."),
        "dropout": unseen.dropout,
    }
    head_rows, _ = matrix_shape(tensors, "class_embed.weight", source=source)
    return Reading(settings, head_rows)


def require_shared(width: int, *, num_heads: int, source: str) -> None:
    """Raise InputError if heads cannot share a width."""
    if num_heads < 1 or width % num_heads:
        raise InputError(f"{source} has a width of {width}, which {num_heads} heads cannot divide")


def matrix_shape(tensors: Mapping[str, Tensor], name: str, *, source: str) -> tuple[int, int]:
    """Return rows and columns; raises InputError if there is no such matrix."""
    shape = tuple(tensors[name].shape) if name in tensors else ()
    if len(shape) != 2:
        raise InputError(f"{source} has no matrix {name}, which every DETR has; the file is incomplete")
    return shape[0], shape[1]


def count_layers(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Return how many numbers there are in the place of the pattern's group."""
    return len({match[1] for match in map(re.compile(pattern).match, tensors) if match})


def resnet_depth(tensors: Mapping[str, Tensor], *, source: str) -> Depth:
    """Return the depth of the backbone; raises InputError if it is none of torchvision's."""
    block = "bottleneck" if "backbone.0.body.layer1.0.conv3.weight" in tensors else "basic"
    blocks = count_layers(tensors, r"backbone\.0\.body\.layer3\.(\d+)\.")
    if (block, blocks) not in RESNET_DEPTHS:
        raise InputError(
            f"{source} has a backbone with {blocks} {block} blocks in layer3; known are ResNets of "
            f"{', '.join(map(str, RESNET_DEPTHS.values()))} layers"
        )
    return RESNET_DEPTHS[block, blocks]
