"""Parameter names of the published checkpoints that all DETR-like detectors share."""

import re
from collections.abc import Sequence

SHARED_ORIGINAL_NAMES = (
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


def original_name(name: str, renames: Sequence[tuple[str, str]]) -> str:
    """Return the published name of one of our parameters."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name
