"""Fold batch norms into the convolutions before them.

A norm with fixed statistics is y = s x + t for each channel, and a convolution is linear in its weights W, so that
s (W * x + b) + t = (s W) * x + (s b + t): one pass over the activations instead of two.
"""

import copy
from typing import cast

import torch
from torch import Tensor, fx, nn
from torchvision.ops import FrozenBatchNorm2d

NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)


def fold_batch_norms(backbone: nn.Module) -> nn.Module:
    """Return a copy of a backbone, in evaluation mode, without the batch norms that follow a convolution.

    Parts whose computation cannot be traced keep theirs. In the copy every part that was traced is an fx.GraphModule.
    """
    backbone = copy.deepcopy(backbone).eval().requires_grad_(False)
    for name, part in list(backbone.named_children()):
        if any(isinstance(module, NORMS) for module in part.modules()):
            setattr(backbone, name, _folded(part))
    return backbone


def _folded(part: nn.Module) -> nn.Module:
    try:
        graph = _Tracer().trace(part)
    except (fx.proxy.TraceError, TypeError, RuntimeError):
        return part  # its computation depends on the data
    traced = fx.GraphModule(part, graph)
    for node in list(graph.nodes):
        if node.op == "call_module" and isinstance(norm := traced.get_submodule(str(node.target)), NORMS):
            _fold(traced, node, norm)
    graph.lint()
    traced.recompile()
    return traced


class _Tracer(fx.Tracer):
    """Looks inside all modules but torch's own and norms."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, NORMS) or super().is_leaf_module(m, module_qualified_name)


def _fold(traced: fx.GraphModule, node: fx.Node, norm: nn.Module) -> None:
    before = node.all_input_nodes[0]
    convolution = traced.get_submodule(str(before.target)) if before.op == "call_module" else None
    if not isinstance(convolution, nn.Conv2d) or len(before.users) > 1 or _calls(traced, before.target) > 1:
        return
    scale, shift = scale_and_shift(norm)
    bias = 0 if convolution.bias is None else convolution.bias * scale
    convolution.weight = nn.Parameter(convolution.weight * scale[:, None, None, None], requires_grad=False)
    convolution.bias = nn.Parameter(bias + shift, requires_grad=False)
    # timm's norms may hold what comes after them, an activation.
    rest = [child for child in norm.children() if not isinstance(child, nn.Identity)]
    traced.set_submodule(str(node.target), nn.Sequential(*rest))
    if not rest:
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)


@torch.no_grad()
def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return s and t of the y = s x + t that a batch norm with fixed statistics computes in each channel."""
    values = dict(norm.named_parameters()) | dict(norm.named_buffers())
    scale = values["weight"] * (values["running_var"] + cast(float, norm.eps)).rsqrt()
    return scale, values["bias"] - values["running_mean"] * scale


def _calls(traced: fx.GraphModule, target: object) -> int:
    return sum(node.op == "call_module" and node.target == target for node in traced.graph.nodes)
