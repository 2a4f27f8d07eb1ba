import pytest
import torch
from torch import nn

from condetr.inference.class_rows import keep_class_rows
from condetr.layers.heads import PredictionHeads, Scores

ROWS = [4, 1, 2]


def heads(scores: Scores) -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"heads": PredictionHeads(8, num_classes=6, scores=scores, start_at_reference=False)})


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_kept_classes_score_as_before(scores: Scores) -> None:
    detector, embeddings = heads(scores), torch.randn(2, 3, 5, 8)
    score = torch.sigmoid if scores == "sigmoid" else lambda logits: logits.softmax(-1)
    before = score(detector.get_submodule("heads")(embeddings, reference_xy=None).final.logits)

    keep_class_rows(detector, ROWS, scores=scores)
    after = score(detector.get_submodule("heads")(embeddings, reference_xy=None).final.logits)

    assert after.shape[-1] == len(ROWS) + (scores == "softmax")
    torch.testing.assert_close(after[..., : len(ROWS)], before[..., ROWS])


def test_no_object_takes_the_probability_of_the_rest() -> None:
    detector, embeddings = heads("softmax"), torch.randn(1, 1, 5, 8)
    before = detector.get_submodule("heads")(embeddings, reference_xy=None).final.logits.softmax(-1)

    keep_class_rows(detector, ROWS, scores="softmax")
    after = detector.get_submodule("heads")(embeddings, reference_xy=None).final.logits.softmax(-1)

    torch.testing.assert_close(after[..., -1], before[..., [0, 3, 5, 6]].sum(-1))
