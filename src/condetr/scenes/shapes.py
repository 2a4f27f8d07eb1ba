"""Synthetic scenes of six kinds of shapes, for demonstrations and tests that need no download."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from condetr.labels import Category
from condetr.scenes.draw import SplitName, Stamp, polygon_stamp, rotated
from condetr.scenes.write import write_coco

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
"""Class names; their dataset ids count from 1."""

_LEAST, _LARGEST = 0.05, 0.30  # of an image's side


def write_scenes(
    folder: Path,
    *,
    num_images: int,
    seed: int,
    size: int = 128,
    val_images: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `num_images` training and `val_images` validation scenes as a COCO data set into a new folder.

    Shapes are rotated, between 5 % and 30 % of the image's side in size (uniform in the logarithm), in colours that are
    independent of their class. `progress` is called with the number of finished images and their total.
    """
    write_coco(
        folder,
        make_stamp=_shape,
        categories=[Category(index, name) for index, name in enumerate(SHAPES, start=1)],
        num_images=num_images,
        val_images=val_images,
        seed=seed,
        size=size,
        progress=progress,
    )


def _shape(rng: np.random.Generator, split: SplitName, size: int) -> tuple[int, Stamp]:
    kind = int(rng.integers(len(SHAPES)))
    side = size * np.exp(rng.uniform(np.log(_LEAST), np.log(_LARGEST)))
    stretch = side / 2 * np.array([1.0, rng.uniform(0.8, 1.0)])
    angle = rng.uniform(0, 2 * np.pi)
    return kind + 1, polygon_stamp(*(rotated(outline * stretch, angle) for outline in _OUTLINES[SHAPES[kind]]))


def _regular(corners: int, *, radius: float = 1.0, phase: float = 0.0) -> Float[np.ndarray, "P 2"]:
    angles = phase + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Float[np.ndarray, "P 2"]:
    return np.stack([_regular(5), _regular(5, radius=0.42, phase=np.pi / 5)], axis=1).reshape(10, 2)


def _cross() -> Float[np.ndarray, "P 2"]:
    arm = 0.3
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]])
    return np.concatenate([rotated(quarter, turn * np.pi / 2) for turn in range(4)])


_OUTLINES = {
    "circle": (_regular(40),),
    "square": (_regular(4, radius=1.2, phase=np.pi / 4),),
    "triangle": (_regular(3, radius=1.1),),
    "star": (_star(),),
    "cross": (_cross(),),
    "ring": (_regular(40), _regular(40, radius=0.55)),
}
