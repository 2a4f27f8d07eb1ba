"""Class heads with more rows than there are classes.

Models of COCO have a row for each of the ids 0..90, and 11 of these ids belong to no class. Their files keep the rows,
so that they can be exchanged bit for bit; a detector in use has its classes' rows only, and what it predicts for these
is the same.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condetr.layers.heads import Scores


def keep_class_rows(detector: nn.Module, rows: Sequence[int], *, scores: Scores) -> None:
    """Reduce a detector's class head to the given rows, in their order."""
    head = detector.get_submodule("heads")
    every = head.get_submodule("class_head")
    assert isinstance(every, nn.Linear)
    head.class_head = _linear(every, rows) if scores == "sigmoid" else ClassesAndNoObject(every, rows)


class ClassesAndNoObject(nn.Module):
    """A head against whose classes "no object" (last) competes together with all rows that belong to no class.

    The softmax over its outputs is the softmax over all rows, with the probability of unused rows added to "no object".
    """

    def __init__(self, every: nn.Linear, rows: Sequence[int]) -> None:
        super().__init__()
        rest = [row for row in range(every.out_features) if row not in set(rows)]
        self.classes = _linear(every, rows)
        self.no_object = _linear(every, rest)

    def forward(self, embeddings: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch C"]:
        """Return the logits of the classes, then that of everything else."""
        rest = self.no_object(embeddings).logsumexp(-1, keepdim=True)
        return torch.cat([self.classes(embeddings), rest], dim=-1)


def _linear(every: nn.Linear, rows: Sequence[int]) -> nn.Linear:
    part = nn.Linear(every.in_features, len(rows))
    index = torch.tensor(rows)
    part.load_state_dict({name: tensor[index] for name, tensor in every.state_dict().items()})
    return part
