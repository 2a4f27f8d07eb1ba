"""What TSP-FCOS and TSP-RCNN share: the encoder, random omission, and which candidate learns an object."""

import copy
import re
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from condetr.detectors.published import Renames
from condetr.layers.encoder import NormFirstEncoder, NormFirstEncoderLayer


def build_encoder(
    dim: int, *, num_layers: int, num_heads: int, feedforward_dim: int, dropout: float
) -> NormFirstEncoder:
    """Build the encoder, all of whose layers start alike."""
    layer = NormFirstEncoderLayer(dim, num_heads=num_heads, hidden_dim=feedforward_dim, dropout=dropout)
    return NormFirstEncoder((copy.deepcopy(layer) for _ in range(num_layers)), dim=dim)


def init_normal(layer: nn.Conv2d | nn.Linear, *, std: float) -> None:
    """Draw the weights of a layer from a normal distribution around 0, and let its bias be 0."""
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def kept_ranks(count: int, *, dropped: float) -> Int[Tensor, " Q"]:
    """Draw which of so many are kept: all but a share of 0 to `dropped`, which is drawn first; one at least."""
    kept = max(int(count * (1 - dropped * float(torch.rand((), device="cpu")))), 1)
    return torch.randperm(count, device="cpu")[:kept]


def cheapest(costs: Float[Tensor, " P"], *, of: Int[Tensor, " P"]) -> Int[Tensor, " N"]:
    """Return the places of the cheapest for each number in `of`; of equal ones the first."""
    if not len(of):
        return of
    of_each = torch.where(of == of.unique()[:, None], costs, torch.inf)
    return of_each.argmin(1)


ENCODER_NAMES: Renames = (
    (r"(^|\.)encoder\.", r"\1transformer_encoder."),
    (r"(encoder\.layers\.\d+)\.self_attention\.", r"\1.self_attn."),
    (r"(encoder\.layers\.\d+)\.self_attention_norm\.", r"\1.norm1."),
    (r"(encoder\.layers\.\d+)\.feedforward_norm\.", r"\1.norm2."),
    (r"(encoder\.layers\.\d+)\.feedforward\.", r"\1."),
)
"""From our names of an encoder's parts to those of torch.nn, in a module `transformer_encoder`."""


def read_encoder(tensors: Mapping[str, Tensor], *, module: str) -> dict[str, Any]:
    """Return the settings that the encoder in a module of a checkpoint shows."""
    first = re.escape(f"{module}transformer_encoder.layers.")
    layers = [name for name in tensors if re.fullmatch(rf"{first}\d+\.linear1\.weight", name)]
    return {
        "hidden_dim": len(tensors[f"{module}transformer_encoder.norm.weight"]),
        "encoder_layers": len(layers),
        "feedforward_dim": len(tensors[layers[0]]) if layers else 1,
    }
