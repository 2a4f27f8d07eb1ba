"""How an average precision is written, wherever one is shown."""

import math


def ap_text(share: float | None) -> str:
    """Return an average precision or recall of 0 to 1 as COCO's own tool prints it, such as 0.409.

    A dash stands for None and NaN, where there is nothing to measure.
    """
    return "-" if share is None or math.isnan(share) else f"{share:.3f}"


def ap_difference_text(difference: float | None) -> str:
    """Return what an average precision gains or loses, such as +0.004; a dash where there is nothing to measure."""
    return "-" if difference is None or math.isnan(difference) else f"{difference:+.3f}"
