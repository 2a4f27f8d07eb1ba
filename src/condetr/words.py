"""Counts and scores as text for messages and tables."""

import math


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun, such as "1 image" and "2,000 images"; `many` is an irregular plural."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def ap_text(share: float | None) -> str:
    """Return an average precision or recall from 0 to 1 as COCO's own tool prints it, such as 0.409.

    A dash stands for None and NaN, which mean that there is no ground truth.
    """
    return "-" if share is None or math.isnan(share) else f"{share:.3f}"


def ap_difference_text(difference: float | None) -> str:
    """Return the change of an average precision, such as +0.004; a dash for None and NaN."""
    return "-" if difference is None or math.isnan(difference) else f"{difference:+.3f}"
