import math

import pytest

from condetr.metrics.text import ap_difference_text, ap_text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.2481, "0.248"), (0.43, "0.430"), (0.0, "0.000"), (None, "-"), (math.nan, "-")],
)
def test_an_average_precision_is_a_share_with_three_digits(share: float | None, text: str) -> None:
    assert ap_text(share) == text


@pytest.mark.parametrize(
    ("difference", "text"), [(0.0041, "+0.004"), (-0.12, "-0.120"), (0.0, "+0.000"), (None, "-"), (math.nan, "-")]
)
def test_a_difference_has_its_sign(difference: float | None, text: str) -> None:
    assert ap_difference_text(difference) == text
