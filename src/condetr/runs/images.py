"""The training and validation images of a run, to warn about evaluation on training images."""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from condetr.data.dataset import ImageRecord
from condetr.data.sources import DataSplits
from condetr.data.stored.facts import find_out
from condetr.data.stored.places import open_image, size_of
from condetr.errors import InputError
from condetr.inference.model_folder import WEIGHTS
from condetr.runs.folder import RunFolder
from condetr.storage.atomic import write_json

_READ = 2**14
"""The number of bytes of a file in its checksum; reading whole data sets would take minutes."""


@dataclass(frozen=True, kw_only=True)
class ImagesUsed:
    """The size and a checksum of every image file, by its path below the common folder.

    They recognise data that moved, and tell other images of the same name apart.
    """

    training: Mapping[str, str]
    validation: Mapping[str, str]

    @staticmethod
    def of(splits: DataSplits) -> "ImagesUsed":
        """Return the images that a training on these splits uses."""
        parts = [[record.path.absolute() for record in split.records] for split in (splits.train, splits.val)]
        root = _common_folder([path for paths in parts for path in paths])
        training, validation = (
            {path.relative_to(root or path.anchor).as_posix(): mark for path, mark in _marks(paths).items()}
            for paths in parts
        )
        return ImagesUsed(training=training, validation=validation)

    @staticmethod
    def of_weights(weights: Path | str) -> "ImagesUsed | None":
        """Return the images of a run, given its folder or its best model; None if they are not recorded."""
        path = Path(weights).absolute()
        folder = path.parent if path.name == WEIGHTS else path
        runs = [RunFolder(folder), *([RunFolder(folder.parent)] if RunFolder(folder.parent).best == folder else [])]
        return next((ImagesUsed.load(run.images) for run in runs if run.images.is_file()), None)

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        write_json(path, {"training": dict(self.training), "validation": dict(self.validation)})

    @staticmethod
    def load(path: Path) -> "ImagesUsed":
        """Read what `save` wrote; raises InputError if the file is damaged."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            training, validation = (
                {str(name): str(mark) for name, mark in content[part].items()} for part in ("training", "validation")
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path} cannot be read ({reason}); restore it or remove it") from None
        return ImagesUsed(training=training, validation=validation)


def are_among(records: Sequence[ImageRecord], used: Mapping[str, str]) -> list[bool]:
    """Tell for each image whether it is among the used ones, even if the data has moved."""
    names: dict[str, list[str]] = {}
    for name in used:
        names.setdefault(name.rpartition("/")[2], []).append(name)
    marks = _marks([record.path for record in records if record.path.name in names])
    return [
        any(
            f"/{record.path.absolute().as_posix()}".endswith(f"/{name}") and used[name] == marks[record.path]
            for name in names.get(record.path.name, [])
        )
        for record in records
    ]


def _common_folder(paths: Sequence[Path]) -> str:
    try:
        return os.path.commonpath({path.parent for path in paths})
    except ValueError:  # they are on several Windows drives
        return ""


def _marks(paths: Sequence[Path]) -> dict[Path, str]:
    return {path: str(mark) for path, mark in zip(paths, find_out(paths, _mark, what="marks"), strict=True)}


def _mark(path: Path) -> str:
    """Return the size of a file and a checksum of its middle: similar images often begin or end with the same bytes."""
    size = size_of(path)
    with open_image(path) as file:
        file.seek(max(0, (size - _READ) // 2))
        return f"{size}-{zlib.crc32(file.read(_READ)):08x}"
