"""From decoder embeddings to class logits and boxes, and how a transformer is initialised."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condetr.layers.mlp import MLP
from condetr.shapes import DetectorOutput, Prediction

Scores = Literal["sigmoid", "softmax"]
"""How logits become scores: each class by itself (focal loss), or against the other classes and "no object" (last)."""

PRIOR_PROBABILITY = 0.01


class PredictionHeads(nn.Module):
    """Class and box heads, shared by all decoder layers (Conditional DETR, section 3.2)."""

    def __init__(self, dim: int, *, num_classes: int, scores: Scores, start_at_reference: bool) -> None:
        super().__init__()
        self.class_head = nn.Linear(dim, num_classes + (scores == "softmax"))
        self.box_head = MLP(dim, dim, dim, 4)
        if scores == "sigmoid":
            nn.init.constant_(self.class_head.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))
        if start_at_reference:
            nn.init.zeros_(self.box_head.layers[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.box_head.layers[-1].bias)  # type: ignore[arg-type]

    def forward(
        self,
        embeddings: Float[Tensor, "L B Q D"],
        *,
        reference_xy: Float[Tensor, "B Q 2"] | None,
        groups: int = 1,
    ) -> DetectorOutput:
        """Predict from every layer; with a reference point (in [0, 1]) the box centre is an offset from it (eq. 1).

        Queries that come in groups yield a prediction set for each group; the final one is the first group's.
        """
        logits = self.class_head(embeddings)
        offsets = self.box_head(embeddings).float()
        if reference_xy is not None:
            offsets = torch.cat([offsets[..., :2] + inverse_sigmoid(reference_xy), offsets[..., 2:]], dim=-1)
        by_group = (_split_groups(values, groups=groups) for values in (logits, offsets.sigmoid()))
        sets = [Prediction(*pair) for pair in zip(*by_group, strict=True)]
        final = sets.pop(-groups)
        return DetectorOutput(final=final, auxiliary=tuple(sets), groups=groups)


def inverse_sigmoid(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return the logit of probabilities, which are kept 1e-5 away from 0 and 1."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=1e-5) / (1 - x).clamp(min=1e-5))


def xavier_init(module: nn.Module) -> None:
    """Draw every matrix of a transformer from Xavier's uniform distribution; biases stay as they are."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def _split_groups(values: Float[Tensor, "L B GQ N"], *, groups: int) -> Float[Tensor, "LG B Q N"]:
    layers, batch, _, width = values.shape
    return values.view(layers, batch, groups, -1, width).transpose(1, 2).flatten(0, 1)
