import pytest
import torch

from condetr.losses.criterion import CriterionConfig, MatcherConfig
from condetr.losses.matcher import pad_targets
from condetr.shapes import DetectorOutput, Prediction, Target

NO_TARGET = Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))


def random_output(*, layers: int = 3, images: int = 2, classes: int = 4) -> DetectorOutput:
    predictions = [
        Prediction(torch.randn(images, 6, classes, requires_grad=True), torch.rand(images, 6, 4) * 0.5 + 0.2)
        for _ in range(layers)
    ]
    return DetectorOutput(final=predictions[-1], auxiliary=tuple(predictions[:-1]))


def random_targets() -> list[Target]:
    return [Target(torch.randint(0, 3, (count,)), torch.rand(count, 4) * 0.5 + 0.2) for count in (3, 1)]


def test_matching_cost_of_the_worked_example() -> None:
    matcher = MatcherConfig().build(scores="sigmoid")
    prediction = Prediction(torch.tensor([[[0.5]]]), torch.tensor([[[0.5, 0.5, 0.4, 0.2]]]))
    target = Target(torch.tensor([0]), torch.tensor([[0.6, 0.45, 0.2, 0.3]]))
    assert matcher.costs(prediction, pad_targets([target])).item() == pytest.approx(1.2510, abs=1e-4)


def test_focal_loss_of_the_worked_example() -> None:
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.2], [0.1, 0.1, 0.1, 0.1]]])
    output = DetectorOutput(final=Prediction(torch.tensor([[[-2, 0.5], [1, -3]]]), boxes), auxiliary=())
    target = Target(torch.tensor([1]), boxes[0, :1])
    losses = CriterionConfig().build(scores="sigmoid")(output, [target], num_boxes=1.0)
    assert losses["loss_classification"].item() == pytest.approx(0.5447, abs=1e-4)
    assert losses["loss"].item() == pytest.approx(2 * 0.5447, abs=1e-4)


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_the_layers_add_up(scores: str) -> None:
    criterion = CriterionConfig().build(scores=scores)  # type: ignore[arg-type]
    output, targets = random_output(), random_targets()
    together = criterion(output, targets, num_boxes=4.0)["loss"]
    one_by_one = [
        criterion(DetectorOutput(final=layer, auxiliary=()), targets, num_boxes=4.0)["loss"]
        for layer in (*output.auxiliary, output.final)
    ]
    torch.testing.assert_close(together, torch.stack(one_by_one).sum())


def test_cross_entropy_is_the_weighted_mean_over_all_queries() -> None:
    output, targets = random_output(layers=1), random_targets()
    losses = CriterionConfig().build(scores="softmax")(output, targets, num_boxes=4.0)
    matcher = MatcherConfig().build(scores="softmax")
    matches = matcher(output.final, pad_targets(targets))
    classes = torch.full((2, 6), 3)
    for row, query, target in zip(*matches, strict=True):
        classes[row, query] = targets[row].labels[target]
    weight = torch.tensor([1, 1, 1, 0.1])
    expected = torch.nn.functional.cross_entropy(output.final.logits.flatten(0, 1), classes.flatten(), weight=weight)
    torch.testing.assert_close(losses["loss_classification"], expected.detach())


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_images_without_targets_give_finite_losses_and_gradients(scores: str) -> None:
    output = random_output()
    criterion = CriterionConfig().build(scores=scores)  # type: ignore[arg-type]
    losses = criterion(output, [NO_TARGET, NO_TARGET], num_boxes=1.0)
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert losses["loss_l1"] == 0
    assert output.final.logits.grad is not None
    assert output.final.logits.grad.isfinite().all()


def test_more_targets_than_queries_match_every_query_once() -> None:
    targets = [Target(torch.zeros(9, dtype=torch.int64), torch.rand(9, 4)), NO_TARGET]
    matches = MatcherConfig().build(scores="sigmoid")(random_output().final, pad_targets(targets))
    assert matches.query.tolist() == list(range(6))
    assert len(set(matches.target.tolist())) == 6


def test_queries_that_are_not_finite_are_matched_last() -> None:
    prediction = random_output(images=1).final
    prediction.boxes_cxcywh[0, :3] = torch.nan
    target = Target(torch.zeros(3, dtype=torch.int64), torch.rand(3, 4))
    matches = MatcherConfig().build(scores="sigmoid")(prediction, pad_targets([target]))
    assert sorted(matches.query.tolist()) == [3, 4, 5]


def test_half_precision_predictions_are_scored_in_full_precision() -> None:
    output = random_output()
    low = DetectorOutput(
        final=Prediction(output.final.logits.bfloat16(), output.final.boxes_cxcywh.bfloat16()), auxiliary=()
    )
    losses = CriterionConfig().build(scores="sigmoid")(low, random_targets(), num_boxes=4.0)
    assert losses["loss"].dtype == torch.float32
