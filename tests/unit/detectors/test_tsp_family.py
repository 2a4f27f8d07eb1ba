import torch
from hypothesis import given
from hypothesis import strategies as st

from condetr.detectors.tsp_family import cheapest, kept_ranks


@given(st.integers(0, 50), st.floats(0, 0.99), st.integers(0, 1000))
def test_a_part_of_the_ranks_is_kept_and_none_twice(count: int, dropped: float, seed: int) -> None:
    torch.manual_seed(seed)
    kept = kept_ranks(count, dropped=dropped).tolist()
    assert len(set(kept)) == len(kept)
    assert set(kept) <= set(range(count))
    assert min(max(int(count * (1 - dropped)), 1), count) <= len(kept) <= count


def test_the_same_seed_keeps_the_same_ranks() -> None:
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(kept_ranks(100, dropped=0.3).tolist())
    assert found[0] == found[1] != found[2]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), max_size=12))
def test_the_cheapest_of_each_is_the_first_of_the_least(pairs: list[tuple[int, int]]) -> None:
    of, costs = ([pair[place] for pair in pairs] for place in (0, 1))
    expected = [
        min((cost, place) for place, cost in enumerate(costs) if of[place] == number)[1] for number in sorted({*of})
    ]
    assert (
        cheapest(torch.tensor(costs, dtype=torch.float32), of=torch.tensor(of, dtype=torch.int64)).tolist() == expected
    )
