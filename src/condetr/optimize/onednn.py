"""Convolutions and linear layers in the form that oneDNN computes fastest on a CPU.

Weights are packed once instead of in every call, and a following activation or sum is applied while a tile of the
result is still in the cache. torch.compile's CPU backend calls the same operators; here they are called without a
compiler. They also make fp32 linear layers fast on processors of other makers than Intel: on one core of an AMD EPYC,
MKL (used by F.linear) reaches 0.09 TFLOP/s, oneDNN 0.22.
"""

import operator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn import functional as F

from condetr.optimize.fold import trace
from condetr.optimize.pooling import NonNegativeMaxPool


class Activation(NamedTuple):
    """oneDNN's name of an activation."""

    name: str
    scalars: tuple[float, ...] = ()


NO_ACTIVATION = Activation("none")
ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.ReLU: Activation("relu"),
    nn.ReLU6: Activation("hardtanh", (0.0, 6.0)),
}
PACKED_SIZES = 4
"""Number of input sizes for which a convolution keeps packed weights."""
_SUMS = (operator.add, operator.iadd, torch.add)


def is_usable(tensor: Tensor) -> bool:
    """Tell whether oneDNN supports tensors like this one."""
    if tensor.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if tensor.dtype == torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return tensor.dtype != torch.bfloat16 or has_bf16_kernels()


def has_bf16_kernels() -> bool:
    """Tell whether oneDNN supports bf16 on this processor, for which it needs AVX-512 or a similar extension."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()  # type: ignore[no-any-return]


def product(x: Float[Tensor, "*batch N D"], y: Float[Tensor, "*batch M D"]) -> Float[Tensor, "*batch N M"]:
    """Return x y^T of two matrices, by oneDNN, or of two stacks of them, by torch.bmm (in fp32, MKL)."""
    if x.dim() == 3:
        return torch.bmm(x, y.mT)
    return torch.ops.mkldnn._linear_pointwise(x, y.contiguous(), None, "none", [], "")  # type: ignore[no-any-return]


class Projection(nn.Module):
    """A linear layer with fixed weights, and an optional ReLU."""

    weight: Tensor
    bias: Tensor

    def __init__(
        self, weight: Float[Tensor, "D_out D_in"], bias: Float[Tensor, " D_out"], *, relu: bool = False
    ) -> None:
        super().__init__()
        self.relu = relu
        self.register_buffer("weight", weight.detach().clone(), persistent=False)
        self.register_buffer("bias", bias.detach().clone(), persistent=False)
        self.is_packed = False

    @staticmethod
    def of(linear: nn.Linear, *, dtype: torch.dtype, relu: bool = False) -> "Projection":
        """Convert a linear layer to another number format."""
        return Projection(linear.weight.to(dtype), linear.bias.to(dtype), relu=relu)

    def pack(self) -> None:
        """Pack the weights for oneDNN."""
        packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous())
        del self.weight  # an opaque tensor cannot be a buffer
        self.weight, self.is_packed = packed, True

    def forward(
        self, x: Float[Tensor, "*batch D_in"], total: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*batch D_out"]:
        """Map the last axis; add `total`, which is broadcast, if it is given (only without ReLU)."""
        if not self.is_packed:
            y = F.linear(x, self.weight, self.bias)
            y = y.relu_() if self.relu else y
            return y if total is None else y + total
        layer = (self.weight, self.bias)
        if total is None:
            return torch.ops.mkldnn._linear_pointwise(x, *layer, "relu" if self.relu else "none", [], "")  # type: ignore[no-any-return]
        total = total.expand(*x.shape[:-1], -1).contiguous()
        return torch.ops.mkldnn._linear_pointwise.binary(x, total, *layer, "add")  # type: ignore[no-any-return]


def with_projections(module: nn.Module, *, dtype: torch.dtype) -> nn.Module:
    """Replace every linear layer inside a module by a projection; return the module."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, Projection.of(child, dtype=dtype))
        else:
            with_projections(child, dtype=dtype)
    return module


def pack_projections(module: nn.Module) -> None:
    """Pack the weights of all projections inside a module, in place."""
    for child in module.modules():
        if isinstance(child, Projection):
            child.pack()


class PackedConvolution(nn.Module):
    """A convolution with fixed weights, then a sum with another feature map if one is given, then an activation."""

    def __init__(self, convolution: nn.Conv2d, *, activation: Activation = NO_ACTIVATION) -> None:
        super().__init__()
        self.geometry = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
        self.activation = activation
        self.weight = convolution.weight.detach()
        self.bias = self.weight.new_zeros(len(self.weight)) if convolution.bias is None else convolution.bias.detach()
        self.depends_on_size = convolution.kernel_size == (1, 1)
        self.packed: dict[tuple[int, ...], Tensor] = {}

    def forward(
        self, x: Float[Tensor, "B D_in H W"], total: Float[Tensor, "B D_out H_out W_out"] | None = None
    ) -> Float[Tensor, "B D_out H_out W_out"]:
        """Return activation(convolution(x)), or overwrite `total` with activation(total + convolution(x))."""
        name, scalars = self.activation.name, list(self.activation.scalars)
        layer = (x, self._weight_for(x.shape), self.bias, *self.geometry)
        if total is None:
            return torch.ops.mkldnn._convolution_pointwise(*layer, name, scalars, "")  # type: ignore[no-any-return]
        unary = None if name == "none" else name
        return torch.ops.mkldnn._convolution_pointwise_.binary(total, *layer, "add", 1.0, unary, scalars, "")  # type: ignore[no-any-return]

    def _weight_for(self, shape: torch.Size) -> Tensor:
        """Return the weights packed for an input: if the kernel is 1 x 1, the layout depends on the input's size.

        In the layout for another size, 512 to 2048 channels on 25 x 34 cells take 58 ms instead of 4 (one core, bf16).
        """
        key = tuple(shape) if self.depends_on_size else ()
        if key not in self.packed:
            if len(self.packed) == PACKED_SIZES:
                self.packed.pop(next(iter(self.packed)))
            self.packed[key] = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, list(shape))
        return self.packed[key]


_MAKERS = (nn.Conv2d, PackedConvolution, nn.ReLU, nn.ReLU6, nn.MaxPool2d)


def pack_convolutions(backbone: nn.Module) -> nn.Module:
    """Replace the convolutions in a backbone, with the sums and activations after them, and the pooling, in place.

    Parts whose computation cannot be traced are not changed; the others become an fx.GraphModule.
    """
    for name, part in list(backbone.named_children()):
        graph = trace(part)
        if graph is not None:
            setattr(backbone, name, _packed(fx.GraphModule(part, graph)))
    return backbone


def _packed(part: fx.GraphModule) -> fx.GraphModule:
    for node in list(part.graph.nodes):
        if _is_convolution(part, node):
            _pack(part, node)
    for node in part.graph.nodes:
        if _pools_activations(part, node):
            part.set_submodule(str(node.target), NonNegativeMaxPool())
    part.graph.lint()
    part.recompile()
    return part


def _pools_activations(part: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a step is a max pooling of non-negative values."""
    if node.op != "call_module" or not NonNegativeMaxPool.stands_for(part.get_submodule(str(node.target))):
        return False
    before = node.all_input_nodes[0]
    convolution = part.get_submodule(str(before.target)) if before.op == "call_module" else None
    return isinstance(convolution, PackedConvolution) and convolution.activation.name in ("relu", "hardtanh")


def is_packable(convolution: nn.Module) -> bool:
    """Tell whether oneDNN's operator can replace a convolution: a plain one, padded with zeros."""
    if type(convolution) is not nn.Conv2d:
        return False
    return convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)


def _is_convolution(part: fx.GraphModule, node: fx.Node) -> bool:
    return (
        node.op == "call_module"
        and is_packable(part.get_submodule(str(node.target)))
        and sum(other.target == node.target for other in part.graph.nodes) == 1
    )


def _pack(part: fx.GraphModule, node: fx.Node) -> None:
    """Let one module compute a convolution, the sum that is the only user of its result, and the activation."""
    convolution = part.get_submodule(str(node.target))
    assert isinstance(convolution, nn.Conv2d)
    last = node
    if (user := _only_user(node)) is not None and (total := _summed_with(node, user)) is not None:
        node.args = (*node.args, total)
        user.prepend(node)  # where the other term exists, and all its other users have run
        last = user
    activation = NO_ACTIVATION
    if (user := _only_user(last)) is not None and user.op == "call_module":
        kind = type(part.get_submodule(str(user.target)))
        if kind in ACTIVATIONS:
            activation, last = ACTIVATIONS[kind], user
    part.set_submodule(str(node.target), PackedConvolution(convolution, activation=activation))
    _take_the_place(part.graph, node, last)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _summed_with(node: fx.Node, user: fx.Node) -> fx.Node | None:
    """Return the other term if `user` adds two layers' results, and is the last user of that term."""
    terms = user.all_input_nodes
    if user.target not in _SUMS or len(terms) != 2 or len(user.args) != 2 or user.kwargs:
        return None
    other = terms[terms[0] is node]
    order = list(user.graph.nodes)
    is_last = all(order.index(reader) <= order.index(user) for reader in other.users)
    return other if is_last and _makes_its_result(other) else None


def _makes_its_result(node: fx.Node) -> bool:
    """Tell whether a layer's result has its own memory, without aliases."""
    module = node.graph.owning_module
    assert module is not None
    return node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), _MAKERS)


def _take_the_place(graph: fx.Graph, node: fx.Node, last: fx.Node) -> None:
    """Let `node` replace the steps after it up to `last`: a sum, an activation, or both."""
    if last is node:
        return
    between = _only_user(node)
    last.replace_all_uses_with(node)
    graph.erase_node(last)
    if between is not last and between is not None:
        graph.erase_node(between)
