"""What a detector's cross-attention weighs: the logits of cells, split into content and spatial part, or points."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from condetr.errors import InputError
from condetr.layers.attention import DotProductAttention, MultiHeadAttention
from condetr.layers.deformable import DeformableAttention, Sampling


class AttentionLogits(NamedTuple):
    """The terms that a decoder layer's cross-attention adds up before its softmax, with the model's own scale."""

    content: Float[Tensor, "B M Q S"]
    spatial: Float[Tensor, "B M Q S"]
    key_is_padding: Bool[Tensor, "B S"]

    @property
    def combined(self) -> Float[Tensor, "B M Q S"]:
        """The logits of the detector's attention."""
        return self.content + self.spatial


class Sampled(NamedTuple):
    """Where a decoder layer's queries look, and how much each place counts."""

    points_xy: Float[Tensor, "B Q M V P 2"]
    """Relative to the image without its padding; what is outside counts as 0."""
    weights: Float[Tensor, "B Q M V P"]
    """They sum to 1 over the points of all levels."""
    reference_xy: Float[Tensor, "B Q 2"]
    """What the points were placed around: a point, or the centre of a box."""


def attention_map(logits: Float[Tensor, "B M Q S"], *, key_is_padding: Bool[Tensor, "B S"]) -> Float[Tensor, "B M Q S"]:
    """Return the softmax over cells; padding gets zero."""
    return logits.masked_fill(key_is_padding[:, None, None], -torch.inf).softmax(dim=-1)


@contextmanager
def capture_cross_attention(detector: nn.Module, *, layers: Sequence[int]) -> Iterator[Mapping[int, AttentionLogits]]:
    """Record the logits of the chosen decoder layers, by layer, in every forward pass inside the block.

    The detector's computation does not change; the logits are computed once more in fp32. Layers are counted from 0.
    Raises InputError if the detector has no such layer.

    Conditional DETR concatenates a content and a spatial part, whose logits are returned as they are. DETR adds both
    into one query and one key: its spatial logits are the whole projected query against the projected position of each
    cell, and its content logits are the rest (Conditional DETR, section 3.3 and figure 4).
    """
    modules = cross_attention_modules(detector)
    _require_layers(layers, num_layers=len(modules))
    seen: dict[int, AttentionLogits] = {}
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_listen(modules[layer], _keep(seen, layer)))
        yield seen


@contextmanager
def capture_sampling(detector: nn.Module, *, layers: Sequence[int]) -> Iterator[Mapping[int, Sampled]]:
    """Record where the chosen decoder layers look, by layer, in every forward pass inside the block.

    For detectors whose queries look at a few points instead of at every cell. Raises InputError if the detector looks
    at cells, or has no such layer.
    """
    modules = sampling_modules(detector)
    _require_layers(layers, num_layers=len(modules))
    seen: dict[int, Sampled] = {}
    with ExitStack() as stack:
        for layer in layers:
            references: list[Tensor] = []
            hooks = {
                modules[layer]: _keep_reference(references),
                modules[layer].attend: _keep_sampling(seen, layer, references),
            }
            for module, hook in hooks.items():
                stack.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
        yield seen


def sampling_modules(detector: nn.Module) -> list[DeformableAttention]:
    """Return the cross-attention of each decoder layer of a detector that looks at points, otherwise an InputError."""
    modules = [module for name, module in detector.named_modules() if name.endswith(".cross_attention")]
    if not all(isinstance(module, DeformableAttention) for module in modules):
        raise InputError(f"{type(detector).__name__} looks at every cell; ask for its cross-attention's maps")
    return cast("list[DeformableAttention]", modules)


def cross_attention_modules(detector: nn.Module) -> list[nn.Module]:
    """Return the cross-attention of each decoder layer; raises InputError for a detector of another kind."""
    modules = [
        module
        for name, module in detector.named_modules()
        if name.endswith(".cross_attention") and _attends_by_logits(module)
    ]
    if not modules:
        raise InputError(
            f"{type(detector).__name__} has no cross-attention that can be explained; choose another detector"
        )
    return modules


def _require_layers(layers: Sequence[int], *, num_layers: int) -> None:
    beyond = [layer for layer in layers if not 0 <= layer < num_layers]
    if beyond:
        raise InputError(f"there is no decoder layer {beyond[0]}; the layers of this model are 0 to {num_layers - 1}")


def _keep_reference(references: list[Tensor]) -> Callable[..., None]:
    def hook(_: nn.Module, __: tuple[Any, ...], options: dict[str, Any]) -> None:
        references[:] = [options["reference"]]

    return hook


def _keep_sampling(seen: dict[int, Sampled], layer: int, references: list[Tensor]) -> Callable[..., None]:
    def hook(_: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        sampling: Sampling = arguments[1]
        ratios: Tensor = options["memory"].valid_ratios
        points_xy = sampling.points_xy / ratios[:, None, None, :, None]
        seen[layer] = Sampled(points_xy, sampling.weights, references[0][..., :2].float())

    return hook


def _attends_by_logits(cross_attention: nn.Module) -> bool:
    """Tell attention that weighs every cell from attention that looks at a few points."""
    return any(isinstance(part, DotProductAttention) for part in cross_attention.children())


Keep = Callable[[AttentionLogits], None]


def _keep(seen: dict[int, AttentionLogits], layer: int) -> Keep:
    def keep(logits: AttentionLogits) -> None:
        seen[layer] = logits

    return keep


def _listen(module: nn.Module, keep: Keep) -> RemovableHandle:
    """Call `keep` with the logits of every forward pass of a cross-attention, until the handle is removed."""
    if isinstance(module, MultiHeadAttention):
        return module.register_forward_pre_hook(_of_sums(keep), with_kwargs=True)
    attend: nn.Module = module.attend  # type: ignore[assignment]
    return attend.register_forward_pre_hook(_of_parts(keep), with_kwargs=True)


def _of_parts(keep: Keep) -> Callable[..., None]:
    def hook(attend: DotProductAttention, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        queries, keys, value = arguments
        content, spatial = (
            _logits(attend, query, key, num_parts=len(queries)) for query, key in zip(queries, keys, strict=True)
        )
        keep(AttentionLogits(content, spatial, _padding(options, value)))

    return hook


def _of_sums(keep: Keep) -> Callable[..., None]:
    def hook(module: MultiHeadAttention, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        query_weight, key_weight, _ = module.in_proj_weight.chunk(3)
        query_bias, key_bias, _ = module.in_proj_bias.chunk(3)
        query = F.linear(options["query"], query_weight, query_bias)
        # The value is the memory without positions: the difference between key and value is the position.
        content_key = F.linear(options["value"], key_weight, key_bias)
        spatial_key = F.linear(options["key"] - options["value"], key_weight)
        content, spatial = (_logits(module.attend, query, key, num_parts=1) for key in (content_key, spatial_key))
        keep(AttentionLogits(content, spatial, _padding(options, options["value"])))

    return hook


def _logits(
    attend: DotProductAttention, query: Float[Tensor, "B Q D"], key: Float[Tensor, "B S D"], *, num_parts: int
) -> Float[Tensor, "B M Q S"]:
    """Return the logits of one part, scaled by the total width of all parts."""
    query, key = attend.split_heads(query.float()), attend.split_heads(key.float())
    scale: float = (num_parts * query.shape[-1]) ** -0.5
    return scale * (query @ key.transpose(-1, -2))


def _padding(options: Mapping[str, Any], value: Float[Tensor, "B S D"]) -> Bool[Tensor, "B S"]:
    is_padding: Tensor | None = options.get("key_is_padding")
    return value.new_zeros(value.shape[:2], dtype=torch.bool) if is_padding is None else is_padding
