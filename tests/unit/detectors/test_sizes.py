import pytest

from condetr.detectors.detector import require_divisible
from condetr.errors import InputError


@pytest.mark.parametrize(("dim", "num_heads"), [(128, 3), (130, 5), (6, 2)])
def test_a_width_that_heads_or_positions_cannot_share_is_refused(dim: int, num_heads: int) -> None:
    with pytest.raises(InputError, match=f"got {dim} and {num_heads}"):
        require_divisible(dim, num_heads=num_heads)


def test_the_published_width_is_accepted() -> None:
    require_divisible(256, num_heads=8)
