"""The fast form of a trained detector: the same function for fixed weights, optimised for the machine.

Each rewrite is based on an identity, which its module states: `fold` (batch norms), `onednn` (layouts and fused
operators), `winograd` and `pooling`, `attention`, `encoder`, `decoder` (constants), `memory` (joined products).
"""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.detectors.detector import Detector
from condetr.errors import InputError, InputWarning
from condetr.layers.encoder import Encoder, EncoderLayer
from condetr.layers.features import FeatureMap
from condetr.layers.heads import PredictionHeads, layer_sets
from condetr.optimize.encoder import FastEncoderLayer
from condetr.optimize.fold import fold_batch_norms
from condetr.optimize.machine import FastPrecision, is_emulated, resolve_dtype
from condetr.optimize.memory import MemoryProjections, PositionProjections, Positions
from condetr.optimize.onednn import (
    PackedConvolution,
    is_usable,
    pack_convolutions,
    pack_projections,
    with_projections,
)
from condetr.optimize.parts import fast_decoder, is_known_decoder
from condetr.optimize.winograd import use_winograd
from condetr.shapes import DetectorOutput, Found, Prediction, Targets

COMPILER_OPTIONS = {"freezing": True}
"""Weights are constants, packed once."""


PARTS: Mapping[str, type[nn.Module]] = {
    "features": FeatureMap, "query_embedding": nn.Embedding, "encoder": Encoder, "heads": PredictionHeads,
}  # fmt: skip
"""The parts of a detector with a fast form, besides reference points and a decoder of known layers."""


def has_fast_form(detector: nn.Module) -> bool:
    """Tell whether a detector consists only of parts that `optimize` knows."""
    parts = dict(detector.named_children())
    return (
        parts.keys() - {"reference_points", "denoising"} == {*PARTS, "decoder"}
        and all(isinstance(parts[name], kind) for name, kind in PARTS.items())
        and is_known_decoder(parts["decoder"])
    )


@torch.no_grad()
def optimize(detector: Detector, *, precision: FastPrecision = "auto", compile: bool = False) -> "FastDetector":
    """Return the fast form of a detector, on its device. The detector is not changed; later changes have no effect.

    In fp32, its logits are those of the detector to 1e-4. With `compile`, torch.compile generates its code at the first
    image of each size, which takes minutes on a CPU and needs a C++ compiler there. Without it, a CPU runs oneDNN's
    fused operators. Raises InputError for a detector without a fast form.
    """
    if not has_fast_form(detector):
        raise InputError(f"{type(detector).__name__} has no fast form: use it without optimize")
    device = next(detector.parameters()).device
    dtype = resolve_dtype(precision, device=device)
    if is_emulated(dtype, device=device):
        sentence = "bf16 is slow on this machine, which does not support it natively: use fp32 or auto"
        warnings.warn(sentence, InputWarning, stacklevel=4)  # the caller, beyond torch's no_grad and Predictor.optimize
    fast = FastDetector(detector, dtype=dtype).eval()
    if compile:
        fast.compile_parts()
    elif is_usable(fast.memory.projection.weight):
        fast.pack()
    return fast


class FastDetector(Detector):
    """A detector for inference; it predicts only from the last decoder layer."""

    reference_xy: Tensor | None

    def __init__(self, detector: Any, *, dtype: torch.dtype) -> None:  # noqa: ANN401 - what `has_fast_form` knows
        super().__init__()
        self.dtype = dtype
        self.strides, self.most_objects = detector.strides, detector.most_objects
        self.rank: Callable[[Prediction, int], list[Found]] = detector.rank
        self.score_function = detector.score_function
        self.features = _fast_features(detector.features, dtype=dtype)
        parts = fast_decoder(detector, dtype=dtype)
        layers = cast("list[EncoderLayer]", list(detector.encoder.layers))
        self.positions = PositionProjections(layers, parts.memory, dim=detector.features.dim, dtype=dtype)
        encoder = nn.ModuleList(FastEncoderLayer(layer, dtype=dtype) for layer in layers)
        self.encoder = cast("list[FastEncoderLayer]", encoder)
        self.memory = MemoryProjections(parts.memory, dim=detector.features.dim, dtype=dtype)
        self.decoder = parts.decoder
        # Boxes and scores are computed in fp32: it costs nothing and keeps small differences between scores.
        self.heads = with_projections(copy.deepcopy(detector.heads), dtype=torch.float32)
        self.register_buffer("reference_xy", parts.reference_xy, persistent=False)

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> DetectorOutput:
        """Predict from the last decoder layer only; `targets` are not used.

        Raises InputError for padding that does not consist of whole rows and columns.
        """
        is_padded = _is_padded(is_padding)
        # Number format and layout are converted one after the other: together they take twice the time.
        features = self.features(images.to(self.dtype).contiguous(memory_format=torch.channels_last))
        cell_is_padding = F.interpolate(is_padding[None].float(), size=features.shape[-2:])[0].bool()
        positions = self.positions(cell_is_padding, is_padded=is_padded)
        return self.transformer(features, positions, cell_is_padding.flatten(1) if is_padded else None)

    def transformer(
        self, features: Float[Tensor, "B D H W"], positions: Positions, key_is_padding: Bool[Tensor, "B S"] | None
    ) -> DetectorOutput:
        """Predict from a feature map."""
        x = features.flatten(2).transpose(1, 2)
        for layer, places in zip(self.encoder, positions.encoder, strict=True):
            x = layer(x, positions=places, key_is_padding=key_is_padding)
        memories = self.memory(x, positions=positions.decoder, is_padding=key_is_padding)
        embeddings = self.decoder(memories).float()
        reference_xy = None if self.reference_xy is None else self.reference_xy.expand(len(x), -1, -1)
        return DetectorOutput(layer_sets(self.heads(embeddings[None], reference_xy=reference_xy)))

    def found(self, output: DetectorOutput, *, limit: int) -> list[Found]:
        """Return the detections, as the original detector does."""
        return self.rank(output.final, limit)

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Raise an error, because weights are constants here."""
        raise InputError("restrict the classes of a detector before it is optimised")

    def pack(self) -> None:
        """Use oneDNN's operators and layouts, on a CPU."""
        backbone, projection = self.features.backbone, self.features.projection
        assert isinstance(projection, nn.Conv2d)
        self.features = FastFeatures(use_winograd(pack_convolutions(backbone)), PackedConvolution(projection))
        pack_projections(self)

    def compile_parts(self) -> None:
        """Let torch.compile generate the code between images, positions and detections."""
        self.features.compile(options=dict(COMPILER_OPTIONS))
        self.transformer = torch.compile(self.transformer, options=dict(COMPILER_OPTIONS))  # type: ignore[method-assign]


def _is_padded(is_padding: Bool[Tensor, "B H W"]) -> bool:
    """Tell whether there is padding; called before other work is queued on a GPU, because it has to wait for it."""
    mask = is_padding.view(torch.uint8)  # takes a tenth of the time of `any` and a quarter of that of `all`
    if not mask.amax():
        return False
    if not torch.equal(mask, mask.amin(1, keepdim=True) | mask.amin(2, keepdim=True)):
        raise InputError("Padding does not consist of whole rows and columns: pad images only at their sides")
    return True


class FastFeatures(nn.Module):
    """A backbone, and the projection of its deepest map to the transformer's width."""

    def __init__(self, backbone: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = projection

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D H_out W_out"]:
        """Return the projected map."""
        features: Tensor = self.projection(self.backbone(images)[-1])
        return features


def _fast_features(features: FeatureMap, *, dtype: torch.dtype) -> FastFeatures:
    """Return the backbone and the projection to the transformer's width."""
    layout = {"dtype": dtype, "memory_format": torch.channels_last}
    backbone: nn.Module = fold_batch_norms(features.backbone).to(**layout)  # type: ignore[call-overload]
    projection: nn.Conv2d = copy.deepcopy(features.projection).requires_grad_(False).to(**layout)  # type: ignore[call-overload]
    return FastFeatures(backbone, projection)
