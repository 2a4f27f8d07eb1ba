"""Names and layout of tensors in transformers, joined to those of the official code.

Files of transformers, also those that version 5 writes, have the names of version 4. Version 5 renames them when it
loads, so that a state dict taken from a model in memory has others; a backbone of transformers' own ResNet instead of
timm's has others again. All of them are read, version 4's are written.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

MODULES = {
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
    "transformer.decoder.layers.*.cross_attn.out_proj": "model.decoder.layers.*.encoder_attn.out_proj",
    "transformer.decoder.layers.*.multihead_attn.out_proj": "model.decoder.layers.*.encoder_attn.out_proj",
    "transformer.decoder.layers.*.linear1": "model.decoder.layers.*.fc1",
    "transformer.decoder.layers.*.linear2": "model.decoder.layers.*.fc2",
    "transformer.decoder.layers.*.norm1": "model.decoder.layers.*.self_attn_layer_norm",
    "transformer.decoder.layers.*.norm2": "model.decoder.layers.*.encoder_attn_layer_norm",
    "transformer.decoder.layers.*.norm3": "model.decoder.layers.*.final_layer_norm",
    "transformer.decoder.norm": "model.decoder.layernorm",
    "transformer.decoder.query_scale.layers.*": "model.decoder.query_scale.layers.*",
    "transformer.decoder.ref_point_head.layers.*": "model.decoder.ref_point_head.layers.*",
}
"""Modules of the official code and of transformers 4; a star stands for a number."""

PROJECTIONS = (
    "sa_qcontent_proj", "sa_qpos_proj", "sa_kcontent_proj", "sa_kpos_proj", "sa_v_proj", "ca_qcontent_proj",
    "ca_qpos_proj", "ca_kcontent_proj", "ca_kpos_proj", "ca_v_proj", "ca_qpos_sine_proj",
)  # fmt: skip
MODULES |= {f"transformer.decoder.layers.*.{name}": f"model.decoder.layers.*.{name}" for name in PROJECTIONS}

FUSED = {
    "transformer.encoder.layers.*.self_attn": "model.encoder.layers.*.self_attn",
    "transformer.decoder.layers.*.self_attn": "model.decoder.layers.*.self_attn",
    "transformer.decoder.layers.*.multihead_attn": "model.decoder.layers.*.encoder_attn",
}
"""Attention whose query, key and value projections are one matrix there and three here."""

BACKBONE = ("backbone.0.body.", "model.backbone.conv_encoder.model.")

VERSION_5 = (
    (r"^model\.backbone\.model\.", BACKBONE[1]),
    (r"\.mlp\.fc(\d)\.", r".fc\1."),
    (r"(encoder|decoder)(.*)\.o_proj\.", r"\1\2.out_proj."),
    (r"(decoder\.layers\.\d+)\.self_attn\.(q|k)_(content|pos)_proj\.", r"\1.sa_\2\3_proj."),
    (r"(decoder\.layers\.\d+)\.encoder_attn\.(q|k)_(content|pos|pos_sine)_proj\.", r"\1.ca_\2\3_proj."),
)
"""Names of version 5 in memory, as regular expressions, and of version 4."""

VERSION_5_CONDITIONAL = (
    (r"(decoder\.layers\.\d+)\.self_attn\.v_proj\.", r"\1.sa_v_proj."),
    (r"(decoder\.layers\.\d+)\.encoder_attn\.v_proj\.", r"\1.ca_v_proj."),
)
"""Further ones of Conditional DETR; in DETR these names mean what they say."""

NATIVE_RESNET = (
    (r"\.embedder\.embedder\.convolution\.", ".conv1."),
    (r"\.embedder\.embedder\.normalization\.", ".bn1."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
)
NATIVE_BLOCK = re.compile(r"\.encoder\.stages\.(\d+)\.layers\.(\d+)\.")
NATIVE_LAYER = re.compile(r"\.layer\.(\d+)\.(convolution|normalization)\.")


def to_version_4(name: str, *, is_conditional: bool) -> str:
    """Return the name that transformers 4 has for a tensor of version 4 or 5, with timm's backbone or its own."""
    for pattern, replacement in VERSION_5 + (VERSION_5_CONDITIONAL if is_conditional else ()):
        name = re.sub(pattern, replacement, name)
    return _timm_name(name) if name.startswith(BACKBONE[1]) else name


def to_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors of the official code to version 4's names, and take fused projections apart."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if name.startswith(BACKBONE[0]):
            renamed[BACKBONE[1] + name.removeprefix(BACKBONE[0])] = tensor
        elif leaf.startswith("in_proj_"):
            theirs, kind = _move(module, FUSED), leaf.removeprefix("in_proj_")
            parts = zip("qkv", tensor.chunk(3), strict=True)
            renamed |= {f"{theirs}.{part}_proj.{kind}": chunk.contiguous() for part, chunk in parts}
        else:
            renamed[f"{_move(module, MODULES)}.{leaf}"] = tensor
    return renamed


def from_transformers(tensors: Mapping[str, Tensor], *, is_conditional: bool) -> dict[str, Tensor]:
    """Undo `to_transformers`; the tensors must be complete."""
    return modules_from_transformers(tensors, is_conditional=is_conditional) | _fused(tensors)


def modules_from_transformers(tensors: Mapping[str, Tensor], *, is_conditional: bool) -> dict[str, Tensor]:
    """Return those tensors under their official names that both sides have as they are: all but fused projections."""
    strange = "multihead_attn" if is_conditional else "cross_attn"
    modules = {theirs: official for official, theirs in MODULES.items() if strange not in official}
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if name.startswith(BACKBONE[1]):
            renamed[BACKBONE[0] + name.removeprefix(BACKBONE[1])] = tensor
        elif _starred(module) in modules:
            renamed[f"{_move(module, modules)}.{leaf}"] = tensor
    return renamed


def _fused(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    attentions = {theirs: official for official, theirs in FUSED.items()}
    fused: dict[str, Tensor] = {}
    for name in tensors:
        module, _, leaf = name.rpartition(".")
        attention, _, projection = module.rpartition(".")
        if projection == "q_proj" and _starred(attention) in attentions:
            parts = [tensors[f"{attention}.{part}_proj.{leaf}"] for part in "qkv"]
            fused[f"{_move(attention, attentions)}.in_proj_{leaf}"] = torch.cat(parts)
    return fused


def _move(module: str, modules: Mapping[str, str]) -> str:
    """Return the module's counterpart, with the same numbers in it."""
    numbers = iter(re.findall(r"\.(\d+)", module))
    return re.sub(r"\*", lambda _: next(numbers), modules[_starred(module)])


def _starred(module: str) -> str:
    return re.sub(r"\.\d+", ".*", module)


def _timm_name(name: str) -> str:
    """Return timm's name of a tensor in transformers' own ResNet; stages and layers are counted from 0 there."""
    for pattern, replacement in NATIVE_RESNET:
        name = re.sub(pattern, replacement, name)
    name = NATIVE_BLOCK.sub(lambda match: f".layer{int(match[1]) + 1}.{match[2]}.", name)
    kinds = {"convolution": "conv", "normalization": "bn"}
    return NATIVE_LAYER.sub(lambda match: f".{kinds[match[2]]}{int(match[1]) + 1}.", name)
