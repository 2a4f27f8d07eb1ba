import pytest

from condetr.words import counted


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 classes"), (1, "1 class"), (2, "2 classes"), (12_345, "12,345 classes")]
)
def test_a_number_has_its_noun(count: int, text: str) -> None:
    assert counted(count, "class", "classes") == text


def test_an_s_makes_the_plural() -> None:
    assert (counted(1, "image"), counted(3, "image")) == ("1 image", "3 images")
