"""Heads for class logits and boxes, and the initialisation of a transformer."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from condetr.layers.mlp import MLP
from condetr.shapes import Pairs, Prediction, PredictionSet

PRIOR_PROBABILITY = 0.01


class PredictionHeads(nn.Module):
    """Class and box heads, shared by all decoder layers (Conditional DETR, section 3.2)."""

    def __init__(self, dim: int, *, num_classes: int, has_no_object: bool, start_at_reference: bool) -> None:
        super().__init__()
        self.class_head: nn.Module = nn.Linear(dim, num_classes + has_no_object)
        self.box_head = MLP(dim, dim, dim, 4)
        self.has_no_object = has_no_object
        if not has_no_object:
            nn.init.constant_(self.class_head.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))
        if start_at_reference:
            nn.init.zeros_(self.box_head.layers[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.box_head.layers[-1].bias)  # type: ignore[arg-type]

    def forward(
        self, embeddings: Float[Tensor, "L B Q D"], *, reference_xy: Float[Tensor, "B Q 2"] | None
    ) -> Prediction:
        """Predict from every layer; with a reference point (in [0, 1]) the box centre is an offset from it (eq. 1)."""
        offsets = self.box_head(embeddings).float()
        if reference_xy is not None:
            offsets = torch.cat([offsets[..., :2] + inverse_sigmoid(reference_xy), offsets[..., 2:]], dim=-1)
        return Prediction(self.class_head(embeddings), offsets.sigmoid())

    def refine(self, embeddings: Float[Tensor, "B Q D"], *, logits: Float[Tensor, "B Q _"]) -> Prediction:
        """Predict from one layer; `logits` are those of a box that is moved in all four numbers, or of its centre."""
        offsets = self.box_head(embeddings).float()
        moved = offsets + logits if logits.shape[-1] == 4 else offsets + F.pad(logits, (0, 2))
        return Prediction(self.class_head(embeddings), moved.sigmoid())

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Reduce the class head to the given rows, in their order.

        COCO models have a row for each of the ids 0..90, and 11 of these ids belong to no class. Predictions for the
        kept classes stay the same.
        """
        every = self.class_head
        assert isinstance(every, nn.Linear)
        self.class_head = ClassesAndNoObject(every, rows) if self.has_no_object else rows_of(every, rows)


class ClassesAndNoObject(nn.Module):
    """A head whose last output, "no object", also includes all rows that belong to no class.

    The softmax over its outputs is the softmax over all rows, with the probability of unused rows added to "no object".
    """

    def __init__(self, every: nn.Linear, rows: Sequence[int]) -> None:
        super().__init__()
        self.classes = rows_of(every, rows)
        self.no_object = rows_of(every, [row for row in range(every.out_features) if row not in set(rows)])

    def forward(self, embeddings: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch K"]:
        """Return the logits of the classes, and of everything else."""
        rest = self.no_object(embeddings).logsumexp(-1, keepdim=True)
        return torch.cat([self.classes(embeddings), rest], dim=-1)


def layer_sets(layers: Prediction, *, groups: int = 1) -> tuple[PredictionSet, ...]:
    """Return the prediction sets of decoder layers, stacked along a first axis.

    Groups of queries make a set each, and the loss is the mean over groups. The last set is that of the first group in
    the last layer.
    """
    return tuple(
        PredictionSet(f"layer{layer}" if groups == 1 else f"layer{layer}_group{group}", each, weight=1 / groups)
        for layer, (logits, boxes_cxcywh) in enumerate(zip(*layers, strict=True))
        for group, each in _by_group(logits, boxes_cxcywh, groups=groups)
    )


def restored_sets(layers: Prediction, *, known: Pairs, groups: int) -> tuple[PredictionSet, ...]:
    """Return the prediction sets of decoder layers for queries made from targets; the loss is the mean over groups."""
    return tuple(
        PredictionSet(f"restored{layer}", Prediction(*each), weight=1 / groups, known=known)
        for layer, each in enumerate(zip(*layers, strict=True))
    )


def rows_of(every: nn.Linear, rows: Sequence[int]) -> nn.Linear:
    """Return a layer that has some of the rows of another one."""
    part = nn.Linear(every.in_features, len(rows))
    index = torch.tensor(rows)
    part.load_state_dict({name: tensor[index] for name, tensor in every.state_dict().items()})
    return part


def inverse_sigmoid(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return the logit of probabilities, which are clamped to 1e-5 away from 0 and 1."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=1e-5) / (1 - x).clamp(min=1e-5))


def xavier_init(module: nn.Module) -> None:
    """Initialise every matrix of a transformer with Xavier's uniform distribution; biases stay unchanged."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def _by_group(logits: Tensor, boxes_cxcywh: Tensor, *, groups: int) -> list[tuple[int, Prediction]]:
    """Return the last group first."""
    if groups == 1:  # the ONNX exporter would otherwise keep the chunk
        return [(0, Prediction(logits, boxes_cxcywh))]
    parts = zip(logits.chunk(groups, dim=1), boxes_cxcywh.chunk(groups, dim=1), strict=True)
    return [(group, Prediction(*part)) for group, part in enumerate(parts)][::-1]
