"""Fold batch norms into the convolutions before them.

A norm with fixed statistics is y = s x + t for each channel, and a convolution is linear in its weights W, so that
s (W * x + b) + t = (s W) * x + (s b + t): one pass over the activations instead of two.
"""

import copy
from collections import Counter

from torch import fx, nn

from condetr.optimize.norms import NORMS, NormedConvolution, scale_and_shift


def fold_batch_norms(backbone: nn.Module) -> nn.Module:
    """Return a copy of a backbone, in evaluation mode, without the batch norms that follow a convolution.

    They are replaced by the activation that timm's norms contain, or by the identity.
    """
    backbone = copy.deepcopy(backbone).eval().requires_grad_(False)
    for part in backbone.children():
        for convolution_name, norm_name in norms_after_convolutions(part):
            _fold(part, convolution_name, norm_name)
    return backbone


def norms_after_convolutions(part: nn.Module) -> list[tuple[str, str]]:
    """Return the names of convolutions that run once and whose result only a batch norm uses, and of that norm.

    There are none where the computation cannot be traced.
    """
    graph = trace(part)
    if graph is None:
        return []
    nodes = list(graph.nodes)
    calls = Counter(str(node.target) for node in nodes if node.op == "call_module")
    pairs = [
        (node.all_input_nodes[0], node)
        for node in nodes
        if node.op == "call_module" and isinstance(part.get_submodule(str(node.target)), NORMS)
    ]
    return [
        (str(before.target), str(norm.target))
        for before, norm in pairs
        if before.op == "call_module"
        and isinstance(part.get_submodule(str(before.target)), nn.Conv2d)
        and len(before.users) == calls[str(before.target)] == calls[str(norm.target)] == 1
    ]


def trace(part: nn.Module) -> fx.Graph | None:
    """Return a module's computation, norms and torch's own modules being single steps; None if it depends on data."""
    try:
        return _Tracer().trace(part)
    except (fx.proxy.TraceError, TypeError, RuntimeError):
        return None


def _fold(part: nn.Module, convolution_name: str, norm_name: str) -> None:
    convolution, norm = part.get_submodule(convolution_name), part.get_submodule(norm_name)
    assert isinstance(convolution, nn.Conv2d)
    if isinstance(convolution, NormedConvolution):
        convolution = convolution.plain()
        part.set_submodule(convolution_name, convolution)
    scale, shift = scale_and_shift(norm)
    bias = 0 if convolution.bias is None else convolution.bias * scale
    convolution.weight = nn.Parameter(convolution.weight * scale[:, None, None, None], requires_grad=False)
    convolution.bias = nn.Parameter(bias + shift, requires_grad=False)
    rest = [child for child in norm.children() if not isinstance(child, nn.Identity)]
    part.set_submodule(norm_name, rest[0] if len(rest) == 1 else nn.Sequential(*rest))


class _Tracer(fx.Tracer):
    """Traces into all modules except norms and torch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, NORMS) or super().is_leaf_module(m, module_qualified_name)
