import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from condetr.detectors.scores import build_set_criterion
from condetr.losses.criterion import CriterionConfig, LossReport
from condetr.shapes import DetectorOutput, Prediction, PredictionSet, Targets

CRITERION = build_set_criterion(CriterionConfig(), scores="sigmoid")
Target = tuple[torch.Tensor, torch.Tensor]


def loss(prediction: Prediction, *targets: Target, num_boxes: float) -> torch.Tensor:
    output = DetectorOutput((PredictionSet("layer", prediction),))
    report: LossReport = CRITERION(output, Targets.of(targets), num_boxes=num_boxes)
    return report["loss"]


def case(seed: int, *, queries: int = 4, targets: int = 3) -> tuple[Prediction, Target]:
    generator = torch.Generator().manual_seed(seed)
    prediction = Prediction(
        torch.randn(1, queries, 3, generator=generator), torch.rand(1, queries, 4, generator=generator) * 0.5 + 0.2
    )
    labels = torch.randint(0, 3, (targets,), generator=generator)
    return prediction, (labels, torch.rand(targets, 4, generator=generator) * 0.5 + 0.2)


@given(st.integers(0, 10_000), st.integers(0, 4))
def test_the_matching_is_the_cheapest_of_all(seed: int, targets: int) -> None:
    prediction, target = case(seed, targets=targets)
    costs = CRITERION.matcher.costs(prediction, Targets.of([target]))[0]
    matches = CRITERION.matcher(Prediction(*(values[None] for values in prediction)), Targets.of([target]))
    found = costs[matches.query, matches.target].sum().item()
    all_sums = [
        sum(costs[query, index].item() for index, query in enumerate(queries))
        for queries in itertools.permutations(range(4), targets)
    ]
    assert abs(found - min(all_sums)) < 1e-4


@given(st.integers(0, 10_000))
def test_the_order_of_queries_and_targets_does_not_matter(seed: int) -> None:
    prediction, target = case(seed)
    order, target_order = torch.randperm(4), torch.randperm(3)
    shuffled = Prediction(prediction.logits[:, order], prediction.boxes_cxcywh[:, order])
    shuffled_target = (target[0][target_order], target[1][target_order])
    losses = [loss(p, t, num_boxes=3.0) for p, t in ((prediction, target), (shuffled, shuffled_target))]
    torch.testing.assert_close(*losses)


@given(st.integers(0, 10_000))
def test_the_mean_over_shards_is_the_loss_of_the_union(seed: int) -> None:
    images = [case(seed), case(seed + 1, targets=1)]
    union = Prediction(*(torch.cat(parts) for parts in zip(*(p for p, _ in images), strict=True)))
    targets = [target for _, target in images]
    whole = loss(union, *targets, num_boxes=4.0)
    shares = [loss(p, t, num_boxes=2.0) for p, t in images]
    torch.testing.assert_close(torch.stack(shares).mean(), whole)
