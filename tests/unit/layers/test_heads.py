import torch

from condetr.layers.heads import PredictionHeads, inverse_sigmoid


def test_inverse_sigmoid_of_the_worked_example() -> None:
    found = inverse_sigmoid(torch.tensor([0.25, 0.0]))
    torch.testing.assert_close(found, torch.tensor([-1.0986, -11.5129]), atol=1e-4, rtol=0)


def test_fresh_boxes_are_centred_on_the_reference_and_classes_are_unlikely() -> None:
    heads = PredictionHeads(8, num_classes=3, scores="sigmoid", start_at_reference=True)
    reference_xy = torch.rand(2, 5, 2) * 0.8 + 0.1
    output = heads(torch.zeros(1, 2, 5, 8), reference_xy=reference_xy)
    torch.testing.assert_close(output.final.boxes_cxcywh[..., :2], reference_xy)
    torch.testing.assert_close(output.final.boxes_cxcywh[..., 2:], torch.full((2, 5, 2), 0.5))
    torch.testing.assert_close(output.final.logits.sigmoid(), torch.full((2, 5, 3), 0.01))


def test_softmax_scores_have_a_column_for_no_object() -> None:
    heads = PredictionHeads(8, num_classes=3, scores="softmax", start_at_reference=False)
    assert heads(torch.randn(2, 1, 5, 8), reference_xy=None).final.logits.shape == (1, 5, 4)
