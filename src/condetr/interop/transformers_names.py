"""Names and layout of tensors in transformers, mapped to those of the official code by tables of each detector.

Files of transformers, including those that version 5 writes, have the names of version 4. Version 5 renames tensors
when it loads them, so the state dict of a model in memory has other names; transformers' own ResNet has yet other names
than timm's. All of them can be read; version 4's are written.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from condetr.detectors.published import TransformersModel

BACKBONE = ("backbone.0.body.", "model.backbone.conv_encoder.model.")

VERSION_5 = (
    (r"^model\.backbone\.model\.", BACKBONE[1]),
    (r"\.mlp\.fc(\d)\.", r".fc\1."),
    (r"(encoder|decoder)(.*)\.o_proj\.", r"\1\2.out_proj."),
)
"""Names of version 5 in memory, as regular expressions, and the names of version 4."""

NATIVE_RESNET = (
    (r"\.embedder\.embedder\.convolution\.", ".conv1."),
    (r"\.embedder\.embedder\.normalization\.", ".bn1."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
)
NATIVE_BLOCK = re.compile(r"\.encoder\.stages\.(\d+)\.layers\.(\d+)\.")
NATIVE_LAYER = re.compile(r"\.layer\.(\d+)\.(convolution|normalization)\.")


def to_version_4(name: str, *, theirs: TransformersModel) -> str:
    """Return the transformers 4 name of a tensor of version 4 or 5, with timm's backbone or its own."""
    for pattern, replacement in VERSION_5 + theirs.version_5_names:
        name = re.sub(pattern, replacement, name)
    return _timm_name(name) if name.startswith(BACKBONE[1]) else name


def to_transformers(tensors: Mapping[str, Tensor], *, theirs: TransformersModel) -> dict[str, Tensor]:
    """Rename tensors of the official code to version 4's names, and split fused projections."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if name.startswith(BACKBONE[0]):
            renamed[BACKBONE[1] + name.removeprefix(BACKBONE[0])] = tensor
        elif leaf.startswith("in_proj_"):
            attention, kind = _move(module, theirs.fused), leaf.removeprefix("in_proj_")
            parts = zip("qkv", tensor.chunk(3), strict=True)
            renamed |= {f"{attention}.{part}_proj.{kind}": chunk.contiguous() for part, chunk in parts}
        else:
            renamed[transformers_name(name, theirs=theirs)] = tensor
    return renamed


def transformers_name(name: str, *, theirs: TransformersModel) -> str:
    """Return what a tensor outside of the backbone and of fused projections is called."""
    module, _, leaf = name.rpartition(".")
    return f"{_move(module, theirs.modules)}.{leaf}"


def from_transformers(tensors: Mapping[str, Tensor], *, theirs: TransformersModel) -> dict[str, Tensor]:
    """Undo `to_transformers`; the tensors must be complete."""
    return modules_from_transformers(tensors, theirs=theirs) | _fused(tensors, theirs=theirs)


def modules_from_transformers(tensors: Mapping[str, Tensor], *, theirs: TransformersModel) -> dict[str, Tensor]:
    """Return the tensors that both sides have in the same form, under official names: all but fused projections."""
    modules = _swapped(theirs.modules)
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        if name.startswith(BACKBONE[1]):
            renamed[BACKBONE[0] + name.removeprefix(BACKBONE[1])] = tensor
        elif _starred(module) in modules:
            renamed[f"{_move(module, modules)}.{leaf}"] = tensor
    return renamed


def _fused(tensors: Mapping[str, Tensor], *, theirs: TransformersModel) -> dict[str, Tensor]:
    attentions = _swapped(theirs.fused)
    fused: dict[str, Tensor] = {}
    for name in tensors:
        module, _, leaf = name.rpartition(".")
        attention, _, projection = module.rpartition(".")
        if projection == "q_proj" and _starred(attention) in attentions:
            parts = [tensors[f"{attention}.{part}_proj.{leaf}"] for part in "qkv"]
            fused[f"{_move(attention, attentions)}.in_proj_{leaf}"] = torch.cat(parts)
    return fused


def _swapped(modules: Mapping[str, str]) -> dict[str, str]:
    return {theirs: official for official, theirs in modules.items()}


def _move(module: str, modules: Mapping[str, str]) -> str:
    """Return the name of the corresponding module, with the same numbers in it."""
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
