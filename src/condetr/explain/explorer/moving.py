"""What it takes to compute a Conditional DETR's spatial logits for reference points that are moved."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from condetr.explain.capture import cross_attention_modules

SPATIAL_QUERY = "decoder.spatial_query"
"""Where a decoder has the transformation T that its layers share."""


class SpatialLayer(NamedTuple):
    """A decoder layer's spatial query p_q = T(f) p_s before its projection, the projection, and the positions' keys."""

    transformation: Float[np.ndarray, "Q D"]
    """T(f) of every query, a factor for each channel."""
    weight: Float[np.ndarray, "D D"]
    bias: Float[np.ndarray, " D"]
    keys: Float[np.ndarray, "S D"]


@contextmanager
def capture_spatial_queries(detector: nn.Module) -> Iterator[list[SpatialLayer]]:
    """Within the block, a forward pass of one image leaves its decoder layers here, the first one first.

    Nothing is left where moving a reference point changes no logits, or where T(f) is more than a factor for each
    channel (figure 5 of the paper has such forms).
    """
    seen: list[SpatialLayer] = []
    with ExitStack() as stack:
        for name, module in detector.named_modules():
            if name == SPATIAL_QUERY and _is_a_factor(module):
                factors: list[Tensor] = []
                stack.enter_context(module.register_forward_pre_hook(_keep_factor(factors), with_kwargs=True))
                for attention in cross_attention_modules(detector):
                    key: nn.Module = attention.spatial_key  # type: ignore[assignment]
                    stack.enter_context(key.register_forward_hook(_keep_layer(seen, factors, attention)))
        yield seen


def _is_a_factor(module: Any) -> bool:  # noqa: ANN401 - the module that a decoder's layers share
    return module.form in ("CSQ", "I", "P") and module.block_dim is None


def _keep_factor(factors: list[Tensor]) -> Any:  # noqa: ANN401 - a hook of torch
    def hook(module: Any, arguments: tuple[Tensor, ...], options: dict[str, Any]) -> None:  # noqa: ANN401
        ones = torch.ones_like(options["p_s"])
        if options["is_first"] or module.transformation is None:
            factors.append(ones)
            return
        source = options["content"] if module.form == "I" else arguments[0]
        factors.append(ones * module.transformation(source))

    return hook


def _keep_layer(seen: list[SpatialLayer], factors: list[Tensor], attention: nn.Module) -> Any:  # noqa: ANN401
    projection: nn.Linear = attention.spatial_query  # type: ignore[assignment]

    def hook(_: nn.Module, __: object, keys: Float[Tensor, "1 S D"]) -> None:
        parts = (factors[-1][0], projection.weight, projection.bias, keys[0])
        seen.append(SpatialLayer(*(part.detach().float().cpu().numpy() for part in parts)))

    return hook
