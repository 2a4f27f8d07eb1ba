"""The fast form of a trained detector: the same function for fixed weights, written for the machine it runs on.

Each rewrite rests on an identity that is said where it is made: `fold` (batch norms), `onednn` (layouts and fused
operators), `attention`, `encoder`, `decoder` (constants), `memory` (joined products).
"""

import copy
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.detectors.conditional_detr import ConditionalDetr
from condetr.detectors.detr import Detr
from condetr.errors import InputError
from condetr.layers.encoder import EncoderLayer
from condetr.layers.features import FeatureMap
from condetr.optimize.encoder import FastEncoderLayer
from condetr.optimize.fold import fold_batch_norms
from condetr.optimize.memory import MemoryProjections, PositionProjections
from condetr.optimize.onednn import PackedConvolution, is_usable, pack_convolutions, with_projections
from condetr.optimize.parts import fast_decoder
from condetr.optimize.precision import FastPrecision, resolve_dtype
from condetr.shapes import DetectorOutput


def has_fast_form(detector: nn.Module) -> bool:
    """Tell whether `optimize` knows a detector."""
    return isinstance(detector, ConditionalDetr | Detr)


@torch.no_grad()
def optimize(detector: nn.Module, *, precision: FastPrecision = "auto") -> "FastDetector":
    """Return the fast form of a detector, on its device; the detector stays as it is, and later changes do not count.

    Its logits are those of the detector to 1e-4 in fp32. Raises InputError for a detector without a fast form.
    """
    if not isinstance(detector, ConditionalDetr | Detr):
        raise InputError(f"{type(detector).__name__} has no fast form: use it as it is")
    dtype = resolve_dtype(precision, device=next(detector.parameters()).device)
    return FastDetector(detector, dtype=dtype).eval()


class FastDetector(nn.Module):
    """A detector for inference; it predicts from the last decoder layer alone."""

    reference_xy: Tensor | None

    def __init__(self, detector: ConditionalDetr | Detr, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.backbone, self.projection = _fast_features(detector.features, dtype=dtype)
        parts = fast_decoder(detector, dtype=dtype)
        layers = cast("list[EncoderLayer]", list(detector.encoder.layers))
        self.positions = PositionProjections(layers, parts.memory, dim=detector.features.dim, dtype=dtype)
        encoder = nn.ModuleList(FastEncoderLayer(layer, dtype=dtype) for layer in layers)
        self.encoder = cast("list[FastEncoderLayer]", encoder)
        self.memory = MemoryProjections(parts.memory, dim=detector.features.dim, dtype=dtype)
        self.decoder = parts.decoder
        # Boxes and scores are read off in fp32: it costs nothing and keeps small differences between scores.
        self.heads = with_projections(copy.deepcopy(detector.heads), dtype=torch.float32)
        self.register_buffer("reference_xy", parts.reference_xy, persistent=False)

    def forward(self, images: Float[Tensor, "B 3 H W"], is_padding: Bool[Tensor, "B H W"]) -> DetectorOutput:
        """Detect, with predictions from the last decoder layer only (`auxiliary` is empty)."""
        is_padded = bool(is_padding.any())
        images = images.to(dtype=self.dtype, memory_format=torch.channels_last)
        features = self.projection(self.backbone(images))
        cell_is_padding = F.interpolate(is_padding[None].float(), size=features.shape[-2:])[0].bool()
        positions = self.positions(cell_is_padding, is_padded=is_padded)
        key_is_padding = cell_is_padding.flatten(1) if is_padded else None
        x = features.flatten(2).transpose(1, 2)
        for layer, places in zip(self.encoder, positions.encoder, strict=True):
            x = layer(x, positions=places, key_is_padding=key_is_padding)
        memories = self.memory(x, positions=positions.decoder, is_padding=key_is_padding)
        embeddings = self.decoder(memories).float()
        reference_xy = None if self.reference_xy is None else self.reference_xy.expand(len(images), -1, -1)
        output: DetectorOutput = self.heads(embeddings[None], reference_xy=reference_xy)
        return output


def _fast_features(features: FeatureMap, *, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """Return the backbone and the projection to the transformer's width."""
    layout = {"dtype": dtype, "memory_format": torch.channels_last}
    backbone: nn.Module = fold_batch_norms(features.backbone).to(**layout)  # type: ignore[call-overload]
    projection: nn.Conv2d = copy.deepcopy(features.projection).requires_grad_(False).to(**layout)  # type: ignore[call-overload]
    if is_usable(projection.weight):
        return pack_convolutions(backbone), PackedConvolution(projection)
    return backbone, projection
