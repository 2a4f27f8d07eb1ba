import pytest
import torch

from condetr.layers.heads import PredictionHeads, inverse_sigmoid

ROWS = [4, 1, 2]


def test_inverse_sigmoid_of_the_worked_example() -> None:
    found = inverse_sigmoid(torch.tensor([0.25, 0.0]))
    torch.testing.assert_close(found, torch.tensor([-1.0986, -11.5129]), atol=1e-4, rtol=0)


def test_fresh_boxes_are_centred_on_the_reference_and_classes_are_unlikely() -> None:
    heads = PredictionHeads(8, num_classes=3, has_no_object=False, start_at_reference=True)
    reference_xy = torch.rand(2, 5, 2) * 0.8 + 0.1
    predicted = heads(torch.zeros(1, 2, 5, 8), reference_xy=reference_xy)
    torch.testing.assert_close(predicted.boxes_cxcywh[0, ..., :2], reference_xy)
    torch.testing.assert_close(predicted.boxes_cxcywh[0, ..., 2:], torch.full((2, 5, 2), 0.5))
    torch.testing.assert_close(predicted.logits.sigmoid(), torch.full((1, 2, 5, 3), 0.01))


def test_softmax_scores_have_a_column_for_no_object() -> None:
    heads = PredictionHeads(8, num_classes=3, has_no_object=True, start_at_reference=False)
    assert heads(torch.randn(2, 1, 5, 8), reference_xy=None).logits.shape == (2, 1, 5, 4)


def six_classes(*, has_no_object: bool) -> PredictionHeads:
    torch.manual_seed(0)
    return PredictionHeads(8, num_classes=6, has_no_object=has_no_object, start_at_reference=False)


@pytest.mark.parametrize("has_no_object", [False, True])
def test_kept_classes_score_as_before(has_no_object: bool) -> None:  # noqa: FBT001
    heads, embeddings = six_classes(has_no_object=has_no_object), torch.randn(2, 3, 5, 8)
    score = torch.nn.Softmax(-1) if has_no_object else torch.sigmoid
    before = score(heads(embeddings, reference_xy=None).logits)

    heads.keep_classes(ROWS)
    after = score(heads(embeddings, reference_xy=None).logits)

    assert after.shape[-1] == len(ROWS) + has_no_object
    torch.testing.assert_close(after[..., : len(ROWS)], before[..., ROWS])


def test_no_object_takes_the_probability_of_the_rest() -> None:
    heads, embeddings = six_classes(has_no_object=True), torch.randn(1, 1, 5, 8)
    before = heads(embeddings, reference_xy=None).logits.softmax(-1)

    heads.keep_classes(ROWS)
    after = heads(embeddings, reference_xy=None).logits.softmax(-1)

    torch.testing.assert_close(after[..., -1], before[..., [0, 3, 5, 6]].sum(-1))
