"""What a reader hands over: annotations as they stand in files, before any image is opened."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from condetr.data.findings import Reading
from condetr.labels import LabelMap


class RawBox(NamedTuple):
    """A box as annotated."""

    corners: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels, or relative to the image where `RawImage.is_relative`."""
    dataset_id: int
    place: str
    """Where in the annotations, such as `annotation 12`."""
    number: int
    """Position among the annotations, objects or lines of `RawImage.files`, counted from 0 over all of them."""
    is_crowd: bool = False
    area: float | None = None


class RawImage(NamedTuple):
    """An image as annotated."""

    image_id: int
    path: Path
    boxes: Sequence[RawBox]
    files: tuple[Path, ...]
    """Where the boxes are annotated."""
    number: int
    """Position in the list of images, counted from 0."""
    size_hw: tuple[int, int] | None = None
    is_relative: bool = False


class RawData(NamedTuple):
    """What a reader returns: the classes, and the images of every split that was asked for and could be read."""

    label_map: LabelMap
    images: dict[str, list[RawImage]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A recognised data set, not read yet."""

    layout: str
    """A short name, such as `voc`."""
    root: Path
    understood: str
    """What was recognised, in a line: `Pascal VOC: 200 XML in annotations/, their images in images/; no split`."""
    splits: tuple[str, ...]
    places: Mapping[str, Sequence[Path]]
    """What each split is made of: a COCO file, a list of images, or folders; empty where the layout has no such places.
    """
    image_folders: frozenset[Path]
    """Where the images lie, as far as recognising tells, without links."""
    num_images: int
    """How many images are annotated, as far as recognising tells."""
    read: Callable[[Sequence[str]], Reading[RawData]]
    """Reads the splits that are named."""
    description: Path | None = None
    """The file that names the places, where the layout has one."""
    files: tuple[Path, ...] = ()
    """Every annotation file, where each belongs to one image."""
    notes: tuple[str, ...] = ()
    """What else was seen, and is not read."""
