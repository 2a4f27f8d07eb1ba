"""From annotations as a reader found them to records that can be trusted, with every fault noted."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from condetr.data.dataset import ImageRecord, Split
from condetr.data.findings import Fault, Note, Reading, refused
from condetr.data.images import ImageHeader, read_headers
from condetr.data.raw import RawData, RawImage
from condetr.errors import InputError
from condetr.labels import LabelMap

_ROUNDING = 0.5  # pixels by which a box may overhang unmentioned: text formats round
_SAME_IOU = 0.9
_MOST = 0.9  # of the boxes lie between 0 and 1 where they are fractions
_PAIRS_AT_ONCE = 2**20


def build_split(raw: RawData, name: str, *, root: Path, skip_unreadable: bool = False) -> Reading[Split]:
    """Check every image file, clip the boxes, drop those without area, and note what was wrong.

    Missing and unreadable files are refused, unless `skip_unreadable` leaves them out.
    """
    images = raw.images.get(name, ())
    yield from _refuse_fractions(images, name)
    for path, count in Counter(image.path for image in images).items():
        if count > 1:
            yield Note(Fault.LISTED_TWICE, f"{name}: {path.name}")
    headers = read_headers([image.path for image in images])
    errors = [header for header in headers if isinstance(header, InputError)]
    yield from _skip_unreadable(errors) if skip_unreadable else _refuse_unreadable(errors, name)
    builder = _RecordBuilder(label_map=raw.label_map, root=root.absolute())
    records = []
    for image, header in zip(images, headers, strict=True):
        if isinstance(header, ImageHeader):
            records.append((yield from builder.build(image, header)))
    if not records:
        yield refused(Fault.NOTHING, f"the split {name!r} of {root} has no {'readable ' if images else ''}image")
    return Split(name=name, records=tuple(records), label_map=raw.label_map)


class PixelBoxes(NamedTuple):
    """The boxes of an image in pixels, as annotated and as far as they lie inside."""

    as_annotated: Float[np.ndarray, "T 4"]
    clipped: Float[np.ndarray, "T 4"]


def pixel_boxes(image: RawImage, *, size_hw: tuple[int, int]) -> PixelBoxes:
    """Return the corners of every box; `size_hw` is that of the image file, as displayed."""
    height, width = size_hw
    limits = np.array([width, height, width, height], dtype=np.float64)
    corners = np.array([box.corners for box in image.boxes], dtype=np.float64).reshape(-1, 4)
    if image.is_relative:
        corners *= limits
    return PixelBoxes(as_annotated=corners, clipped=corners.clip(0, limits))


def has_area(corners: Float[np.ndarray, "T 4"]) -> Bool[np.ndarray, " T"]:
    """Tell which boxes have a width and a height."""
    is_box: Bool[np.ndarray, " T"] = np.all(corners[:, 2:] > corners[:, :2], axis=1)
    return is_box


def _refuse_fractions(images: Sequence[RawImage], split: str) -> Iterator[Note]:
    """Refuse boxes that can only be meant relative to the image, where the layout has pixels."""
    corners = np.array([box.corners for image in images if not image.is_relative for box in image.boxes])
    if corners.size and np.mean(np.abs(corners).max(axis=1) <= 1) >= _MOST and not (corners == np.round(corners)).all():
        yield refused(
            Fault.FRACTIONS,
            f"the boxes of the split {split!r} lie between 0 and 1, as fractions of the image do, where pixels are "
            "meant: multiply them by the width and height of their images",
        )


def _skip_unreadable(errors: Sequence[InputError]) -> Iterator[Note]:
    for error in errors:
        yield Note(Fault.UNREADABLE, str(error))


def _refuse_unreadable(errors: Sequence[InputError], split: str) -> Iterator[Note]:
    """Refuse images one by one, each with the sentence about all of them."""
    first = "; ".join(str(error) for error in errors[:3])
    count = f"{len(errors)} images are" if len(errors) > 1 else "1 image is"
    refusal = (
        f"in the split {split!r} {count} missing or unreadable"
        f" (repair, remove, or leave out with skip_unreadable): {first}"
    )
    for error in errors:
        yield Note(Fault.BROKEN_IMAGE, str(error), refusal=refusal)


class _RecordBuilder:
    def __init__(self, *, label_map: LabelMap, root: Path) -> None:
        self.training_ids = label_map.training_ids
        self.root = root

    def build(self, image: RawImage, header: ImageHeader) -> Reading[ImageRecord]:
        yield from self._notes_of_size(image, header)
        corners, clipped = pixel_boxes(image, size_hw=header.size_hw)
        yield from self._notes_of_boxes(image, corners, clipped)
        keep = has_area(clipped)
        boxes = [box for box, kept in zip(image.boxes, keep, strict=True) if kept]
        if not boxes:
            yield Note(Fault.EMPTY, self._shown(image.path))
        for index in repeated_boxes(clipped[keep], [box.dataset_id for box in boxes]):
            yield Note(Fault.REPEATED_BOX, f"{self._shown(image.path)}: {boxes[index].place}")
        sides = clipped[keep, 2:] - clipped[keep, :2]
        given = np.array([np.nan if box.area is None else box.area for box in boxes], dtype=np.float64)
        return ImageRecord(
            image_id=image.image_id,
            path=image.path,
            size_hw=header.size_hw,
            boxes_xyxy=clipped[keep],
            labels=np.array([self.training_ids[box.dataset_id] for box in boxes], dtype=np.int64),
            is_crowd=np.array([box.is_crowd for box in boxes], dtype=np.bool_),
            areas=np.where(np.isnan(given), sides.prod(axis=1), given),
        )

    def _notes_of_size(self, image: RawImage, header: ImageHeader) -> Iterator[Note]:
        if image.size_hw is None or image.size_hw == header.size_hw:
            return
        fault = Fault.TURNED if header.is_turned and image.size_hw == header.size_hw[::-1] else Fault.OTHER_SIZE
        said, is_now = ("x".join(map(str, size[::-1])) for size in (image.size_hw, header.size_hw))
        yield Note(fault, f"{self._shown(image.path)}: {said} in the annotations, {is_now} in the file")

    def _notes_of_boxes(
        self, image: RawImage, corners: Float[np.ndarray, "T 4"], clipped: Float[np.ndarray, "T 4"]
    ) -> Iterator[Note]:
        is_box, is_box_inside = has_area(corners), has_area(clipped)
        overhangs = (np.abs(corners - clipped) > _ROUNDING).any(axis=1)
        for fault, mask in (
            (Fault.DEGENERATE, ~is_box),
            (Fault.OUTSIDE, is_box & ~is_box_inside),
            (Fault.CLIPPED, is_box_inside & overhangs),
        ):
            for index in np.flatnonzero(mask).tolist():
                yield Note(fault, f"{self._shown(image.path)}: {image.boxes[index].place}")

    def _shown(self, path: Path) -> str:
        whole = path.absolute()
        return whole.relative_to(self.root).as_posix() if whole.is_relative_to(self.root) else str(path)


def repeated_boxes(boxes_xyxy: Float[np.ndarray, "T 4"], classes: Sequence[int]) -> list[int]:
    """Return the boxes whose IoU with an earlier one of their class exceeds `_SAME_IOU`."""
    repeated: list[int] = []
    # An image may have ten thousand boxes, and the square of that would not fit in memory.
    rows = max(1, _PAIRS_AT_ONCE // max(1, len(boxes_xyxy)))
    for first in range(0, len(boxes_xyxy), rows):
        is_same = _are_same(boxes_xyxy, np.asarray(classes), rows=slice(first, first + rows))
        repeated += (first + np.flatnonzero(np.tril(is_same, k=first - 1).any(axis=1))).tolist()
    return repeated


def _are_same(
    boxes_xyxy: Float[np.ndarray, "T 4"], classes: Int[np.ndarray, " T"], *, rows: slice
) -> Bool[np.ndarray, "R T"]:
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    areas = (high - low).prod(axis=1)
    overlap_sides = np.minimum(high[rows, None], high) - np.maximum(low[rows, None], low)
    overlap = overlap_sides.clip(0).prod(axis=2)
    same_class = np.equal.outer(classes[rows], classes)
    is_same: Bool[np.ndarray, "R T"] = same_class & (overlap > _SAME_IOU * (areas[rows, None] + areas - overlap))
    return is_same
