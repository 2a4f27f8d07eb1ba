"""Drawn scenes: textured backgrounds, clutter, and objects with tight boxes."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

SUPERSAMPLING = 4
"""Masks are drawn this many times larger than they appear, for smooth edges and boxes finer than a pixel."""

SplitName = Literal["train", "val"]

_LARGEST_IOU = 0.3
_LARGEST_COVER = 0.5  # fraction of the smaller box, so that no object hides another
_LEAST_CONTRAST = 100.0  # distance in RGB between an object and the background under it


class Stamp(NamedTuple):
    """An object's shape, ready to be blended into an image."""

    alpha: Float[np.ndarray, "h w"]
    """Opacity in [0, 1]."""
    box_xyxy: tuple[float, float, float, float]
    """Tight box in pixels from the stamp's corner."""
    area: float


class DrawnObject(NamedTuple):
    """An object of a scene."""

    dataset_id: int
    box_xyxy: tuple[float, float, float, float]
    area: float


class Scene(NamedTuple):
    """An image and its objects."""

    image: UInt8[np.ndarray, "H W 3"]
    objects: tuple[DrawnObject, ...]


StampMaker = Callable[[np.random.Generator, SplitName, int], tuple[int, Stamp]]
"""Draws a random object for a scene of the given side: dataset category id and stamp."""


def draw_scene(rng: np.random.Generator, *, split: SplitName, make_stamp: StampMaker, size: int) -> Scene:
    """Draw 1 to 8 objects, with little overlap, on a textured background with clutter."""
    canvas = background(rng, size=size)
    for _ in range(rng.integers(2, 7)):
        _lay(rng, canvas, _clutter(rng, size), low=-0.3, contrast=25.0)
    objects: list[DrawnObject] = []
    for _ in range(rng.integers(1, 9)):
        dataset_id, stamp = make_stamp(rng, split, size)
        corner_xy = _free_corner(rng, stamp, size, [placed.box_xyxy for placed in objects])
        if corner_xy is not None:
            _blend(rng, canvas, stamp, corner_xy, contrast=_LEAST_CONTRAST)
            objects.append(DrawnObject(dataset_id, _shifted(stamp.box_xyxy, corner_xy), stamp.area))
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(0, 5))
    return Scene(image=canvas.clip(0, 255).astype(np.uint8), objects=tuple(objects))


def stamp_from_mask(mask: Image.Image) -> Stamp:
    """Reduce a supersampled grey mask to a stamp; box and area come from the fine mask."""
    fine = np.asarray(mask) > 127
    rows, columns = np.flatnonzero(fine.any(axis=1)), np.flatnonzero(fine.any(axis=0))
    scale = float(SUPERSAMPLING)
    return Stamp(
        alpha=np.asarray(mask.reduce(SUPERSAMPLING), dtype=np.float32) / 255,
        box_xyxy=(columns[0] / scale, rows[0] / scale, (columns[-1] + 1) / scale, (rows[-1] + 1) / scale),
        area=float(np.count_nonzero(fine)) / scale**2,
    )


def polygon_stamp(*outlines: Float[np.ndarray, "P 2"]) -> Stamp:
    """Fill the first outline (x, y in pixels around 0) and cut the others out of it."""
    half = int(np.ceil(np.abs(outlines[0]).max())) + 1
    mask = Image.new("L", (2 * half * SUPERSAMPLING,) * 2)
    draw = ImageDraw.Draw(mask)
    for outline, fill in zip(outlines, (255, *[0] * (len(outlines) - 1)), strict=True):
        draw.polygon(((outline + half) * SUPERSAMPLING).ravel().tolist(), fill=fill)
    return stamp_from_mask(mask)


def rotated(points: Float[np.ndarray, "P 2"], angle: float) -> Float[np.ndarray, "P 2"]:
    """Rotate points around 0."""
    cos, sin = np.cos(angle), np.sin(angle)
    turned: Float[np.ndarray, "P 2"] = points @ np.array([[cos, sin], [-sin, cos]])
    return turned


def _clutter(rng: np.random.Generator, size: int) -> Stamp:
    """Draw a line or an irregular blob, neither of which is an object."""
    if rng.random() < 0.6:
        length, width = size * rng.uniform(0.25, 0.7), max(1.0, size * rng.uniform(0.004, 0.015))
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [length / 2, width / 2]
        return polygon_stamp(rotated(corners, rng.uniform(0, np.pi)))
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    # Strong waves of both two and three per turn: no blob resembles a circle, a square or a triangle.
    radii = 1 + sum(rng.uniform(0.18, 0.34) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in (2, 3))
    outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.asarray(radii)[:, None]
    return polygon_stamp(outline * size * rng.uniform(0.03, 0.16))


def _free_corner(
    rng: np.random.Generator, stamp: Stamp, size: int, others: Sequence[tuple[float, float, float, float]]
) -> tuple[int, int] | None:
    """Return where the stamp's corner can lie so that its box is inside and covers little of others, if found."""
    x1, y1, x2, y2 = stamp.box_xyxy
    low_xy, high_xy = (-int(x1), -int(y1)), (int(size - x2), int(size - y2))
    for _ in range(20):
        corner_xy = (int(rng.integers(low_xy[0], high_xy[0] + 1)), int(rng.integers(low_xy[1], high_xy[1] + 1)))
        box = _shifted(stamp.box_xyxy, corner_xy)
        if not any(_crowds(box, other) for other in others):
            return corner_xy
    return None


def _shifted(box: tuple[float, float, float, float], by_xy: tuple[int, int]) -> tuple[float, float, float, float]:
    return float(box[0] + by_xy[0]), float(box[1] + by_xy[1]), float(box[2] + by_xy[0]), float(box[3] + by_xy[1])


def _crowds(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return shared > _LARGEST_IOU * (sum(areas) - shared) or shared > _LARGEST_COVER * min(areas)


def _lay(
    rng: np.random.Generator, canvas: Float[np.ndarray, "H W 3"], stamp: Stamp, *, low: float, contrast: float
) -> None:
    """Blend a stamp in anywhere, also across the border."""
    size = len(canvas)
    corner_xy = int(rng.uniform(low, 1) * size), int(rng.uniform(low, 1) * size)
    _blend(rng, canvas, stamp, corner_xy, contrast=contrast)


def _blend(
    rng: np.random.Generator,
    canvas: Float[np.ndarray, "H W 3"],
    stamp: Stamp,
    corner_xy: tuple[int, int],
    *,
    contrast: float,
) -> None:
    """Blend a stamp in, in a random, slightly shaded colour that differs from what is below by `contrast`."""
    x, y = corner_xy
    alpha = stamp.alpha[max(0, -y) : len(canvas) - y, max(0, -x) : len(canvas) - x]
    below = canvas[max(0, y) : max(0, y) + alpha.shape[0], max(0, x) : max(0, x) + alpha.shape[1]]
    if not alpha.size:
        return
    colour = _contrasting(rng, below.mean(axis=(0, 1)), contrast)
    shade = np.linspace(-1, 1, alpha.shape[0], dtype=np.float32)[:, None, None] * np.float32(rng.uniform(-22, 22))
    below += (colour + shade - below) * alpha[..., None]


def _contrasting(rng: np.random.Generator, ground: Float[np.ndarray, " 3"], contrast: float) -> Float[np.ndarray, " 3"]:
    colours = rng.uniform(10, 245, size=(16, 3)).astype(np.float32)
    distances = np.linalg.norm(colours - ground, axis=1)
    chosen: Float[np.ndarray, " 3"] = colours[int(np.argmax(distances >= contrast))]
    return chosen


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
    """Return smooth noise, more in brightness than in colour: a coarse random grid, enlarged."""
    shape = (cells + 1, cells + 1)
    grid = 128 + rng.normal(0, 36, size=(*shape, 1)) + rng.normal(0, 14, size=(*shape, 3))
    coarse = Image.fromarray(grid.clip(0, 255).astype(np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    noise: Float[np.ndarray, "H W 3"] = (smooth - 128) * np.float32(strength / 36)
    return noise


def _ramp(rng: np.random.Generator, size: int) -> Float[np.ndarray, "H W"]:
    """Return values that grow from about -0.7 to 0.7 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    line = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    ramp: Float[np.ndarray, "H W"] = line[:, None] * np.float32(np.sin(angle)) + line * np.float32(np.cos(angle))
    return ramp
