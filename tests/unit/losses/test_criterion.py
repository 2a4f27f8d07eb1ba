import pytest
import torch

from condetr.detectors.scores import Scores, build_set_criterion
from condetr.losses.criterion import CriterionConfig, SetCriterion
from condetr.shapes import DetectorOutput, Pairs, Prediction, PredictionSet, Targets

NO_TARGET = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)


def criterion_of(scores: Scores) -> SetCriterion:
    return build_set_criterion(CriterionConfig(), scores=scores)


def output_of(*predictions: Prediction) -> DetectorOutput:
    return DetectorOutput(tuple(PredictionSet(f"layer{i}", each) for i, each in enumerate(predictions)))


def stacked(prediction: Prediction) -> Prediction:
    """Return one set of predictions as the matcher takes several."""
    return Prediction(*(values[None] for values in prediction))


def random_output(*, layers: int = 3, images: int = 2, classes: int = 4) -> DetectorOutput:
    predictions = [
        Prediction(torch.randn(images, 6, classes, requires_grad=True), torch.rand(images, 6, 4) * 0.5 + 0.2)
        for _ in range(layers)
    ]
    return output_of(*predictions)


def random_targets() -> Targets:
    return Targets.of((torch.randint(0, 3, (count,)), torch.rand(count, 4) * 0.5 + 0.2) for count in (3, 1))


def test_matching_cost_of_the_worked_example() -> None:
    matcher = criterion_of("sigmoid").matcher
    prediction = Prediction(torch.tensor([[[0.5]]]), torch.tensor([[[0.5, 0.5, 0.4, 0.2]]]))
    targets = Targets.of([(torch.tensor([0]), torch.tensor([[0.6, 0.45, 0.2, 0.3]]))])
    assert matcher.costs(prediction, targets).item() == pytest.approx(1.2510, abs=1e-4)


def test_focal_loss_of_the_worked_example() -> None:
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.2], [0.1, 0.1, 0.1, 0.1]]])
    output = output_of(Prediction(torch.tensor([[[-2, 0.5], [1, -3]]]), boxes))
    targets = Targets.of([(torch.tensor([1]), boxes[0, :1])])
    losses = criterion_of("sigmoid")(output, targets, num_boxes=1.0)
    assert losses["loss_classification"].item() == pytest.approx(0.5447, abs=1e-4)
    assert losses["loss"].item() == pytest.approx(2 * 0.5447, abs=1e-4)


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_the_layers_add_up(scores: Scores) -> None:
    criterion = criterion_of(scores)
    output, targets = random_output(), random_targets()
    together = criterion(output, targets, num_boxes=4.0)["loss"]
    one_by_one = [criterion(output_of(layer.prediction), targets, num_boxes=4.0)["loss"] for layer in output.sets]
    torch.testing.assert_close(together, torch.stack(one_by_one).sum())


def test_cross_entropy_is_the_weighted_mean_over_all_queries() -> None:
    output, targets = random_output(layers=1), random_targets()
    criterion = criterion_of("softmax")
    losses = criterion(output, targets, num_boxes=4.0)
    matches = criterion.matcher(stacked(output.final), targets)
    classes = torch.full((2, 6), 3)
    for _, image, query, target in zip(*matches, strict=True):
        classes[image, query] = targets.labels[image, target]
    weight = torch.tensor([1, 1, 1, 0.1])
    expected = torch.nn.functional.cross_entropy(output.final.logits.flatten(0, 1), classes.flatten(), weight=weight)
    torch.testing.assert_close(losses["loss_classification"], expected.detach())


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_images_without_targets_give_finite_losses_and_gradients(scores: Scores) -> None:
    output = random_output()
    criterion = criterion_of(scores)
    losses = criterion(output, Targets.none(2), num_boxes=1.0)
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert losses["loss_l1"] == 0
    assert output.final.logits.grad is not None
    assert output.final.logits.grad.isfinite().all()


def test_more_targets_than_queries_match_every_query_once() -> None:
    targets = Targets.of([(torch.zeros(9, dtype=torch.int64), torch.rand(9, 4)), NO_TARGET])
    matches = criterion_of("sigmoid").matcher(stacked(random_output().final), targets)
    assert matches.query.tolist() == list(range(6))
    assert len(set(matches.target.tolist())) == 6


def test_queries_that_are_not_finite_are_matched_last() -> None:
    prediction = random_output(images=1).final
    prediction.boxes_cxcywh[0, :3] = torch.nan
    targets = Targets.of([(torch.zeros(3, dtype=torch.int64), torch.rand(3, 4))])
    matches = criterion_of("sigmoid").matcher(stacked(prediction), targets)
    assert sorted(matches.query.tolist()) == [3, 4, 5]


def test_half_precision_predictions_are_scored_in_full_precision() -> None:
    output = random_output()
    low = output_of(Prediction(output.final.logits.bfloat16(), output.final.boxes_cxcywh.bfloat16()))
    losses = criterion_of("sigmoid")(low, random_targets(), num_boxes=4.0)
    assert losses["loss"].dtype == torch.float32


def test_the_weight_of_a_set_weighs_its_loss() -> None:
    output, targets = random_output(layers=2), random_targets()
    criterion = criterion_of("sigmoid")
    first, last = (criterion(output_of(each.prediction), targets, num_boxes=4.0)["loss"] for each in output.sets)
    weighted = DetectorOutput((output.sets[0]._replace(weight=0.25), output.sets[1]))
    torch.testing.assert_close(criterion(weighted, targets, num_boxes=4.0)["loss"], 0.25 * first + last)


def test_sets_of_unlike_size_are_matched_apart() -> None:
    large, small = random_output(layers=1).final, random_output(layers=1).final
    small = Prediction(*(values[:, :4].detach() for values in small))
    targets, criterion = random_targets(), criterion_of("sigmoid")
    together = criterion(output_of(small, large), targets, num_boxes=4.0)
    apart = [criterion(output_of(each), targets, num_boxes=4.0) for each in (small, large)]
    torch.testing.assert_close(together["loss"], apart[0]["loss"] + apart[1]["loss"])
    torch.testing.assert_close(together["loss_l1"], apart[1]["loss_l1"])


def test_queries_whose_target_is_known_learn_it_and_the_others_learn_nothing() -> None:
    prediction = Prediction(torch.randn(1, 3, 4, requires_grad=True), torch.rand(1, 3, 4, requires_grad=True))
    targets = Targets.of([(torch.tensor([2]), torch.tensor([[0.5, 0.5, 0.2, 0.2]]))])
    known = Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([0]))
    output = DetectorOutput((PredictionSet("restored", prediction, known=known),))
    criterion_of("sigmoid")(output, targets, num_boxes=1.0)["loss"].backward()
    for values in prediction:
        assert values.grad is not None
        assert values.grad[0].abs().sum(1).nonzero().tolist() == [[1]]


def test_a_set_that_knows_no_classes_learns_that_there_are_objects_and_no_other_set_does() -> None:
    output, targets, criterion = random_output(layers=2), random_targets(), criterion_of("sigmoid")
    agnostic, last = output.sets
    together = criterion(DetectorOutput((agnostic._replace(class_agnostic=True), last)), targets, num_boxes=4.0)
    any_object = targets._replace(labels=torch.zeros_like(targets.labels))
    apart = [
        criterion(output_of(agnostic.prediction), any_object, num_boxes=4.0),
        criterion(output_of(last.prediction), targets, num_boxes=4.0),
    ]
    torch.testing.assert_close(together["loss"], apart[0]["loss"] + apart[1]["loss"])
    torch.testing.assert_close(together["loss_classification"], apart[1]["loss_classification"])
