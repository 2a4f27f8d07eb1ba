"""What a cleaned copy of a data set keeps: images that can be read, in one split, with boxes that lie inside."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from condetr.data.findings import Fault
from condetr.data.raw import RawImage
from condetr.data.records import has_area, pixel_boxes, repeated_boxes
from condetr.doctor.contents import shared_with
from condetr.doctor.examine import Examination

DROPPED_BY_READERS = (
    Fault.FAULTY_FILE,
    Fault.FAULTY_ENTRY,
    Fault.UNKNOWN_CATEGORY,
    Fault.REPEATED_IMAGE_ID,
    Fault.LEAVING,
    Fault.NO_ANNOTATION,
    Fault.AMBIGUOUS,
    Fault.COPIED,
    Fault.NAMESAKE,
    Fault.NOT_ANNOTATED,
    Fault.NOT_LISTED,
    Fault.ORPHAN,
    Fault.REPEATED_IMAGE,
    Fault.REPEATED_CATEGORY,
)
UNDECIDED = (Fault.CATEGORY_CLASH, Fault.SPLIT_UNCLEAR, Fault.TURNED, Fault.OTHER_SIZE)
"""What only someone who knows the data can put right."""

_TOLERANCE = 1e-3  # pixels; what text formats round away is not worth a change

Corners = tuple[float, float, float, float]


class KeptImage(NamedTuple):
    """An image that stays."""

    image: RawImage
    size_hw: tuple[int, int]
    boxes: Mapping[int, Corners | None]
    """By `RawBox.number`: new corners in pixels, or None where the box stays as it is."""


@dataclass(kw_only=True)
class Decisions:
    """What stays of every split, and a sentence for everything that does not stay as it was."""

    kept: dict[str, list[KeptImage]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)


def decide(examination: Examination) -> Decisions:
    """Drop what a training could not use, images of the training split that another split has, and repeated boxes."""
    decisions = Decisions()
    for fault in DROPPED_BY_READERS:
        decisions.dropped += [f"{place}: {fault.one} {fault.what}" for place in examination.places(fault)]
    for fault in UNDECIDED:
        decisions.undecided += [f"{place}: {fault.one} {fault.what}" for place in examination.places(fault)]
    decisions.changed += [f"{place}: gets an id of its own" for place in examination.places(Fault.REPEATED_ID)]
    leaked = shared_with(
        examination.readable[examination.train],
        [paths for name, paths in examination.readable.items() if name != examination.train],
        examination.contents,
    )
    for name, images in examination.raw.images.items():
        decisions.kept[name] = []
        for image in images:
            reason = _why_not(image, examination)
            if name == examination.train and image.path in leaked:
                reason = "another split has the same image"
            if reason:
                decisions.dropped.append(f"{name}: {image.path} with {len(image.boxes)} boxes: {reason}")
            else:
                decisions.kept[name].append(_kept(image, examination.headers[image.path].size_hw, decisions))
    decisions.undecided += _similar(examination, decisions)
    return decisions


def _similar(examination: Examination, decisions: Decisions) -> Iterator[str]:
    stays = {(name, each.image.path) for name, kept in decisions.kept.items() for each in kept}
    for split, path, home, other in examination.similar:
        if (split, path) in stays and (home, other) in stays:
            yield f"{split}: {path} looks the same as {home}: {other}"


def _why_not(image: RawImage, examination: Examination) -> str | None:
    if image.path not in examination.headers:
        return "missing, truncated or unreadable"
    return "its pixels cannot be decoded" if examination.contents[image.path].broken else None


def _kept(image: RawImage, size_hw: tuple[int, int], decisions: Decisions) -> KeptImage:
    as_annotated, clipped = pixel_boxes(image, size_hw=size_hw)
    boxes: dict[int, Corners | None] = {}
    kept: list[int] = []
    seen = set()
    for index, box in enumerate(image.boxes):
        place, same = f"{image.path}: {box.place}", (box.dataset_id, box.is_crowd, *clipped[index].tolist())
        if not has_area(clipped[index : index + 1])[0]:
            decisions.dropped.append(f"{place}: a box without area inside the image")
        elif same in seen:
            decisions.dropped.append(f"{place}: the same box stands twice")
        else:
            kept.append(index)
            boxes[box.number] = None
            if not np.allclose(as_annotated[index], clipped[index], rtol=0, atol=_TOLERANCE):
                decisions.changed.append(f"{place}: clipped to the image")
                x1, y1, x2, y2 = clipped[index].tolist()
                boxes[box.number] = x1, y1, x2, y2
        seen.add(same)
    for again in repeated_boxes(clipped[kept], [image.boxes[index].dataset_id for index in kept]):
        place = image.boxes[kept[again]].place
        decisions.undecided.append(f"{image.path}: {place}: {Fault.REPEATED_BOX.one} {Fault.REPEATED_BOX.what}")
    return KeptImage(image, size_hw, boxes)
