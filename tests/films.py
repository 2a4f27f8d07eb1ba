"""Short videos for tests."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_film(
    path: Path,
    *,
    frames: int = 6,
    rate: Fraction = Fraction(30000, 1001),
    size_hw: tuple[int, int] = (48, 64),
    turned: int = 0,
) -> Path:
    """Write a video whose left upper quarter is red; `turned` is how far, in degrees, a player turns it back."""
    height, width = size_hw
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if turned:
            stream.set_display_rotation(turned)
        for number in range(frames):
            pixels = np.full((height, width, 3), min(20 * number, 240), np.uint8)
            pixels[: height // 2, : width // 2] = (255, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path
