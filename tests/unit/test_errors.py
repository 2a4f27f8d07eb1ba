import pytest

from condetr.errors import first_line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("too wide"), "too wide"),
        (RuntimeError("\n  no such kernel\nframe 0"), "no such kernel"),
        (AssertionError(), "AssertionError"),
        (OSError(" \n"), "OSError"),
    ],
)
def test_what_an_error_says_first(error: Exception, expected: str) -> None:
    assert first_line(error) == expected
