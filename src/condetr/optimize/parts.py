"""Parts of a detector with a form that is faster on a CPU."""

from torch import nn

from condetr.layers.attention import DotProductAttention, MultiHeadAttention
from condetr.optimize.attention import FastAttention
from condetr.optimize.depthwise import DilatedDepthwiseConvolution
from condetr.optimize.dropout import FastDropout
from condetr.optimize.linear import ConvolvedLinear, ConvolvedMultiHeadAttention
from condetr.optimize.machine import has_fast_linear_layers


def replace_parts(detector: nn.Module) -> None:
    """Replace them, in place; parameters, buffers and their names do not change."""
    for name, module in list(detector.named_modules()):
        part = _fast_form(module)
        if part is not None:
            detector.set_submodule(name, part.train(module.training))


def _fast_form(module: nn.Module) -> nn.Module | None:
    if type(module) is nn.Dropout:
        return FastDropout(module.p)
    if type(module) is DotProductAttention:
        return FastAttention(module)
    if DilatedDepthwiseConvolution.stands_for(module):
        return DilatedDepthwiseConvolution(module)  # type: ignore[arg-type]
    if has_fast_linear_layers():
        return None
    if type(module) is nn.Linear:
        return ConvolvedLinear(module)
    return ConvolvedMultiHeadAttention(module) if type(module) is MultiHeadAttention else None
