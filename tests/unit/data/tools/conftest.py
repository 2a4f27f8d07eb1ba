"""Reading of what labelling tools wrote."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from condetr.data.findings import Fault, Note, leniently, places_of
from condetr.data.raw import Source
from condetr.data.recognise import recognise
from tests.unit.data.conftest import write_image, write_text

Boxes = list[tuple[str, tuple[float, ...]]]


class Read(NamedTuple):
    """What was read of all splits, and what was found wrong."""

    source: Source
    splits: dict[str, dict[str, Boxes]]
    """Class and corners of each box, by split and image, the image's path relative to the data."""
    notes: tuple[Note, ...]

    @property
    def images(self) -> dict[str, Boxes]:
        """The images of the only split."""
        ((_, images),) = self.splits.items()
        return images

    def places(self, fault: Fault) -> tuple[str, ...]:
        return places_of(self.notes, fault)


def read(path: Path) -> Read:
    source = recognise(path)
    raw, notes = leniently(source.read(source.splits))
    names = dict(zip(raw.label_map.dataset_ids, raw.label_map.names, strict=True))
    splits = {
        split: {
            image.path.relative_to(source.root).as_posix(): [
                (names[box.dataset_id], tuple(round(corner, 3) for corner in box.corners)) for box in image.boxes
            ]
            for image in images
        }
        for split, images in raw.images.items()
    }
    return Read(source, splits, notes)


def write_images(folder: Path, *names: str) -> None:
    for name in names:
        write_image(folder / name)


def write_json(path: Path, content: Any) -> Path:  # noqa: ANN401
    return write_text(path, json.dumps(content))
