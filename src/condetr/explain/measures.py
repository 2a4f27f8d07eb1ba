"""Measures of an attention map, or of weighted points: where the mass lies, relative to the detection's box."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

Side = Literal["left", "top", "right", "bottom"]
Watched = Literal["left", "top", "right", "bottom", "inside", "elsewhere", "everywhere"]

SIDES: tuple[Side, ...] = ("left", "top", "right", "bottom")
OPPOSITE: Mapping[Side, Side] = {"left": "right", "top": "bottom", "right": "left", "bottom": "top"}

REACH = 0.25
"""How far the band at a side extends into the box, out of it and past its corners, as a fraction of the box's size."""

LEAST_SHARE, LEAST_RATIO = 0.2, 2.0
"""A head watches a side with at least this fraction of its mass and this multiple of the opposite side's."""

EVEN = 0.9
"""From this evenness, a map counts as looking everywhere."""


class MapNumbers(NamedTuple):
    """Where the mass of one head's map, or the weight of its points, lies; shares are fractions of all of it."""

    centre_xy: tuple[float, float]
    """Centre of mass in units of the box: its left top corner is (0, 0), its right bottom corner (1, 1)."""
    in_box: float
    at_sides: dict[Side, float]
    """Share of the band at each side of the box. Bands overlap in the corners."""
    entropy: float
    """In bits: 0 if one cell or point has all mass, log2 of their number if all have the same."""
    evenness: float | None
    """The entropy as a fraction of its maximum. None for points: however even, they may all lie in one place."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, without an evenness that is None."""
        known = {name: value for name, value in self._asdict().items() if value is not None}
        return {**known, "watches": watched(self)}


def measure(attention: Float[np.ndarray, "h w"], *, box_xyxy: Float[np.ndarray, "4"]) -> MapNumbers:
    """Measure a map that sums to 1 against a box relative to the image.

    The mass of a cell is assumed to be uniform over its square, so that bands thinner than a cell can be measured.
    """
    corner, size = _corner_and_size(box_xyxy)
    shares = {
        name: _share(attention, np.concatenate([corner + size * region[:2], corner + size * region[2:]]))
        for name, region in _REGIONS.items()
    }
    centre_x, centre_y = (_centre_of_mass(attention) - corner) / size
    entropy = _entropy(attention)
    return MapNumbers(
        centre_xy=(float(centre_x), float(centre_y)),
        in_box=shares.pop("box"),
        at_sides={side: shares[side] for side in SIDES},
        entropy=entropy,
        evenness=entropy / np.log2(max(attention.size, 2)),
    )


def measure_points(
    points_xy: Float[np.ndarray, "*any 2"], weights: Float[np.ndarray, "*any"], *, box_xyxy: Float[np.ndarray, "4"]
) -> MapNumbers:
    """Measure points whose weights sum to 1 against a box; both are relative to the image."""
    corner, size = _corner_and_size(box_xyxy)
    places, mass = (points_xy.reshape(-1, 2) - corner) / size, weights.ravel().astype(float)
    shares = {
        name: float(mass[((region[:2] <= places) & (places <= region[2:])).all(axis=1)].sum())
        for name, region in _REGIONS.items()
    }
    centre_x, centre_y = mass @ places
    return MapNumbers(
        centre_xy=(float(centre_x), float(centre_y)),
        in_box=shares.pop("box"),
        at_sides={side: shares[side] for side in SIDES},
        entropy=_entropy(mass),
        evenness=None,
    )


def mean(numbers: Sequence[MapNumbers]) -> MapNumbers:
    """Return the mean of one head's numbers over several detections."""
    evenness = [each.evenness for each in numbers if each.evenness is not None]
    centre_x, centre_y = np.mean([each.centre_xy for each in numbers], axis=0)
    return MapNumbers(
        centre_xy=(float(centre_x), float(centre_y)),
        in_box=float(np.mean([each.in_box for each in numbers])),
        at_sides={side: float(np.mean([each.at_sides[side] for each in numbers])) for side in SIDES},
        entropy=float(np.mean([each.entropy for each in numbers])),
        evenness=float(np.mean(evenness)) if evenness else None,
    )


def watched(numbers: MapNumbers) -> Watched:
    """Return a word for where a head looks.

    It is `everywhere` if the entropy of a map is at least nine tenths of its maximum; a side, if the band there holds
    the most, at least a fifth of the mass and twice as much as the opposite band; otherwise `inside` if half of the
    mass is in the box; otherwise `elsewhere`.
    """
    if numbers.evenness is not None and numbers.evenness >= EVEN:
        return "everywhere"
    side = max(SIDES, key=numbers.at_sides.__getitem__)
    share, opposite = numbers.at_sides[side], numbers.at_sides[OPPOSITE[side]]
    if share >= LEAST_SHARE and share >= LEAST_RATIO * opposite:
        return side
    return "inside" if numbers.in_box >= 0.5 else "elsewhere"


def who_watches(heads: Sequence[MapNumbers]) -> str:
    """Return a line such as `left: head 3 · top: head 0 · inside: heads 1, 2`."""
    by_place = {
        place: [str(number) for number, head in enumerate(heads) if watched(head) == place]
        for place in get_args(Watched)
    }
    return " · ".join(
        f"{place}: head{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
        for place, numbers in by_place.items()
        if numbers
    )


def heads_of_sides(heads: Sequence[MapNumbers]) -> dict[Side, int]:
    """Give each side a different head that prefers it to the opposite side; with few heads, some sides have none."""
    lean = np.array([[each.at_sides[side] - each.at_sides[OPPOSITE[side]] for side in SIDES] for each in heads])
    chosen = zip(*linear_sum_assignment(lean, maximize=True), strict=True)
    by_side = {SIDES[side]: int(head) for head, side in chosen}
    return {side: by_side[side] for side in SIDES if side in by_side}


_REGIONS = {
    "box": np.array([0, 0, 1, 1]),
    "left": np.array([-REACH, -REACH, REACH, 1 + REACH]),
    "top": np.array([-REACH, -REACH, 1 + REACH, REACH]),
    "right": np.array([1 - REACH, -REACH, 1 + REACH, 1 + REACH]),
    "bottom": np.array([-REACH, 1 - REACH, 1 + REACH, 1 + REACH]),
}
"""Corners in units of the box."""


def _corner_and_size(box_xyxy: Float[np.ndarray, "4"]) -> tuple[np.ndarray, np.ndarray]:
    return box_xyxy[:2].astype(float), np.maximum(box_xyxy[2:] - box_xyxy[:2], 1e-6).astype(float)


def _entropy(mass: Float[np.ndarray, "*any"]) -> float:
    some = mass[mass > 0].astype(float)
    return abs(float((some * np.log2(some)).sum()))


def _centre_of_mass(attention: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "2"]:
    height, width = attention.shape
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    return np.array([attention.sum(axis=0) @ x, attention.sum(axis=1) @ y])


def _share(attention: Float[np.ndarray, "h w"], region_xyxy: Float[np.ndarray, "4"]) -> float:
    left, top, right, bottom = region_xyxy
    height, width = attention.shape
    return float(_covered(height, low=top, high=bottom) @ attention @ _covered(width, low=left, high=right))


def _covered(cells: int, *, low: float, high: float) -> Float[np.ndarray, " cells"]:
    """Divide [0, 1] into equal cells; return the fraction of each that lies between two points."""
    covered: np.ndarray = np.diff(np.clip(np.arange(cells + 1) / cells, low, high)) * cells
    return covered
