import pytest

import condetr


@pytest.mark.parametrize("name", condetr.__all__)
def test_every_public_name_is_found(name: str) -> None:
    assert getattr(condetr, name) is not None
    assert name in dir(condetr)


def test_there_are_few_public_names() -> None:
    assert len(condetr.__all__) <= 12


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        getattr(condetr, "trian")  # noqa: B009 - a plain access does not pass mypy
