"""Words for messages."""


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun, such as "1 image" and "2,000 images"; `many` where an s is not enough."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
