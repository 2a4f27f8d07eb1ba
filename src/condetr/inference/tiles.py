"""Large images in tiles: where the tiles lie, and what is found in several of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from condetr.errors import InputError
from condetr.shapes import Detections

DEFAULT_OVERLAP = 0.2
SAME_OBJECT = 0.5
"""The part of the smaller of two boxes that the other covers, from which both are about one object."""
_COMPARED = 20  # boxes for each that may be kept; comparing all would take seconds
_BORDER = 2.0  # pixels within which a box touches the border of its tile


class Tile(NamedTuple):
    """A part of an image, in pixels."""

    left: int
    top: int
    right: int
    bottom: int


class TileFinds(NamedTuple):
    """What was found in a tile, in pixels of the tile."""

    tile: Tile
    found: Detections


def tiles_of(size_hw: tuple[int, int], *, side: int, overlap: float) -> list[Tile]:
    """Return tiles of one size that cover an image, at least the given share of a side over one another.

    An image that fits into a tile is one tile. Where there are several, the whole image comes first, for objects that
    are larger than a tile.
    """
    if side < 32 or not 0 <= overlap < 1:
        raise InputError(
            f"tiles need a side of 32 pixels or more and an overlap from 0 to below 1, got {side} and {overlap:g}"
        )
    height, width = size_hw
    tiles = [
        Tile(left, top, left + min(side, width), top + min(side, height))
        for top in _starts(height, side=side, overlap=overlap)
        for left in _starts(width, side=side, overlap=overlap)
    ]
    return tiles if len(tiles) == 1 else [Tile(0, 0, width, height), *tiles]


def merge_tiles(finds: Sequence[TileFinds], *, size_hw: tuple[int, int], limit: int) -> Detections:
    """Return what was found in the tiles of an image, in its pixels, best first, every object once.

    Of two boxes of a class from different tiles, of which one covers half of the smaller or more, one is kept: not the
    one that ends at a border of its tile, where the object may go on, otherwise the better one. What overlaps within a
    tile stays, as the detector means it so.
    """
    together = _together(finds)
    is_cut = np.concatenate([_is_cut(each, size_hw=size_hw) for each in finds])
    tile = np.repeat(np.arange(len(finds)), [len(each.found) for each in finds])
    kept: list[int] = []
    waiting = np.argsort(-together.scores, kind="stable")[: _COMPARED * limit]
    waiting = waiting[np.argsort(is_cut[waiting], kind="stable")]
    while len(waiting):
        first, others = waiting[0], waiting[1:]
        kept.append(int(first))
        is_same = (together.labels[others] == together.labels[first]) & (tile[others] != tile[first])
        covered = _share_of_smaller(together.boxes_xyxy[first], together.boxes_xyxy[others])
        waiting = others[~(is_same & (covered >= SAME_OBJECT))]
    ranked = np.array(kept, dtype=np.int64)
    return together.take(ranked[np.argsort(-together.scores[ranked], kind="stable")]).first(limit)


def _starts(length: int, *, side: int, overlap: float) -> list[int]:
    if length <= side:
        return [0]
    count = math.ceil((length - side) / (side * (1 - overlap))) + 1
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def _together(finds: Sequence[TileFinds]) -> Detections:
    shifts = [np.array([tile.left, tile.top] * 2, np.float32) for tile, _ in finds]
    return Detections(
        boxes_xyxy=np.concatenate([each.found.boxes_xyxy + by for each, by in zip(finds, shifts, strict=True)]),
        scores=np.concatenate([each.found.scores for each in finds]),
        labels=np.concatenate([each.found.labels for each in finds]),
        names=tuple(name for each in finds for name in each.found.names),
    )


def _is_cut(find: TileFinds, *, size_hw: tuple[int, int]) -> Bool[np.ndarray, " N"]:
    """Tell which boxes end at a border of their tile that is none of the image."""
    tile, boxes_xyxy = find.tile, find.found.boxes_xyxy
    height, width = size_hw
    cut: np.ndarray = (boxes_xyxy[:, 0] <= _BORDER) & (tile.left > 0)
    cut |= (boxes_xyxy[:, 1] <= _BORDER) & (tile.top > 0)
    cut |= (boxes_xyxy[:, 2] >= tile.right - tile.left - _BORDER) & (tile.right < width)
    cut |= (boxes_xyxy[:, 3] >= tile.bottom - tile.top - _BORDER) & (tile.bottom < height)
    return cut


def _share_of_smaller(
    box_xyxy: Float[np.ndarray, "4"], others_xyxy: Float[np.ndarray, "N 4"]
) -> Float[np.ndarray, " N"]:
    sides = np.minimum(box_xyxy[2:], others_xyxy[:, 2:]) - np.maximum(box_xyxy[:2], others_xyxy[:, :2])
    smaller = np.minimum(np.prod(box_xyxy[2:] - box_xyxy[:2]), np.prod(others_xyxy[:, 2:] - others_xyxy[:, :2], axis=1))
    share: np.ndarray = sides.clip(min=0).prod(axis=1) / np.maximum(smaller, 1e-9)
    return share
