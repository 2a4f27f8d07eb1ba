import math

import pytest

from condetr.words import ap_difference_text, ap_text, counted


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 classes"), (1, "1 class"), (2, "2 classes"), (12_345, "12,345 classes")]
)
def test_a_number_has_its_noun(count: int, text: str) -> None:
    assert counted(count, "class", "classes") == text


def test_an_s_makes_the_plural() -> None:
    assert (counted(1, "image"), counted(3, "image")) == ("1 image", "3 images")


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
