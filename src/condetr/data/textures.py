"""Backgrounds that a detector must learn to ignore."""

import numpy as np
from jaxtyping import Float
from PIL import Image


def background(rng: np.random.Generator, *, size: int) -> Float[np.ndarray, "H W 3"]:
    """Return a square of soft noise, a gradient and sometimes stripes and grain, in muted colours of 0..255."""
    canvas = _noise(rng, size=size, cells=int(rng.integers(2, 6)), strength=rng.uniform(8, 32))
    canvas += _muted(rng, low=60.0, high=195.0)
    canvas += _ramp(rng, size)[..., None] * _muted(rng, low=-55.0, high=55.0)
    if rng.random() < 0.4:
        periods = rng.uniform(3, 14)
        canvas += np.sin(_ramp(rng, size) * np.float32(2 * np.pi * periods))[..., None] * _muted(
            rng, low=-18.0, high=18.0
        )
    if rng.random() < 0.5:
        canvas += _noise(rng, size=size, cells=max(8, size // 6), strength=rng.uniform(3, 10))
    return canvas


def _muted(rng: np.random.Generator, *, low: float, high: float) -> Float[np.ndarray, " 3"]:
    """Draw a colour near the grey axis, as real backgrounds are."""
    colour: Float[np.ndarray, " 3"] = (rng.uniform(low, high) + rng.normal(0, 14, size=3)).astype(np.float32)
    return colour


def _noise(rng: np.random.Generator, *, size: int, cells: int, strength: float) -> Float[np.ndarray, "H W 3"]:
    """Smooth noise, more of light than of colour: a coarse random grid, enlarged."""
    shape = (cells + 1, cells + 1)
    grid = 128 + rng.normal(0, 36, size=(*shape, 1)) + rng.normal(0, 14, size=(*shape, 3))
    coarse = Image.fromarray(grid.clip(0, 255).astype(np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    noise: Float[np.ndarray, "H W 3"] = (smooth - 128) * np.float32(strength / 36)
    return noise


def _ramp(rng: np.random.Generator, size: int) -> Float[np.ndarray, "H W"]:
    """Values that grow from about -0.7 to 0.7 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    line = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    ramp: Float[np.ndarray, "H W"] = line[:, None] * np.float32(np.sin(angle)) + line * np.float32(np.cos(angle))
    return ramp
