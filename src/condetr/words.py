"""Counts and scores as messages and tables have them."""

import math


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun, such as "1 image" and "2,000 images"; `many` where an s is not enough."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def ap_text(share: float | None) -> str:
    """Return an average precision or recall of 0 to 1 as COCO's own tool prints it, such as 0.409.

    A dash stands for None and NaN, where there is nothing to measure.
    """
    return "-" if share is None or math.isnan(share) else f"{share:.3f}"


def ap_difference_text(difference: float | None) -> str:
    """Return what an average precision gains or loses, such as +0.004; a dash where there is nothing to measure."""
    return "-" if difference is None or math.isnan(difference) else f"{difference:+.3f}"
