import pytest
import torch

from condetr.optimize.dropout import FastDropout


def test_elements_are_dropped_with_the_probability_that_was_asked_for() -> None:
    torch.manual_seed(0)
    dropped = 1 - FastDropout(0.1)(torch.ones(1000, 1001)).bool().double().mean()

    assert float(dropped) == pytest.approx(0.1, abs=0.002)


def test_the_mean_stays_and_elements_that_stay_are_all_alike() -> None:
    torch.manual_seed(0)
    result = FastDropout(0.3)(torch.ones(1000, 1000))

    assert float(result.mean()) == pytest.approx(1, abs=0.005)
    assert result.unique().tolist() == pytest.approx([0, 1 / 0.7], abs=1e-4)


def test_masks_follow_the_seed_and_differ_from_call_to_call() -> None:
    torch.manual_seed(3)
    first, second = (FastDropout(0.5)(torch.ones(64, 3)) for _ in range(2))
    torch.manual_seed(3)

    assert torch.equal(first, FastDropout(0.5)(torch.ones(64, 3)))
    assert not torch.equal(first, second)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (FastDropout(0.2)(torch.ones(200_000, 8)) == 0).double()

    correlations = torch.corrcoef(dropped.T).fill_diagonal_(0)
    assert float(correlations.abs().max()) < 0.01


def test_nothing_is_dropped_outside_training() -> None:
    x = torch.randn(5, 4)

    assert torch.equal(FastDropout(0.5).eval()(x), x)
