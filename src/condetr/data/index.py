"""The names of all files below a data folder, looked up once; no file is opened but those that may be condetr's own."""

import os
import unicodedata
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import features

from condetr.data.stored.places import stored_below
from condetr.data.stored.tars import enter_tars
from condetr.errors import InputError

_NEVER_DATA = frozenset({"__macosx", "__pycache__", "node_modules", "lost+found", "$recycle.bin"})
_RUN = frozenset({"config.yaml", "labels.json"})  # what condetr's trainings write
_MODEL = frozenset({"config.json", "model.safetensors"})
_PREDICTIONS = "detections.json"
_BESIDE_PREDICTIONS = frozenset({"pictures", "videos", "crops", "coco", "voc", "yolo", "csv"})
_CLEANED = "cleaning.txt"


class Entries(NamedTuple):
    """What is in a folder and not hidden, in order."""

    files: Sequence[str]
    folders: Sequence[str]
    links: Sequence[str]
    """Folders that are links."""


@dataclass(frozen=True)
class Index:
    """Files by their paths below `root`, with slashes."""

    root: Path
    folders: Mapping[str, Sequence[str]]
    """The files of each folder, by the folder's path; the root's is empty."""
    own: tuple[str, ...]
    """Files and folders that condetr itself wrote, which are no data."""

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Every file."""
        return tuple(join(folder, name) for folder, names in self.folders.items() for name in names)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Every file whose name ends like an image's."""
        return tuple(file for file in self.files if is_image(file))

    @cached_property
    def images_by_name(self) -> Mapping[str, Sequence[str]]:
        """The images of each name, ending included, written as `spelling` writes it."""
        return _grouped((spelling(name_of(file)), file) for file in self.images)

    @cached_property
    def images_by_stem(self) -> Mapping[str, Sequence[str]]:
        """The images of each name without its ending, written as `spelling` writes it."""
        return _grouped((spelling(stem(name_of(file))), file) for file in self.images)

    @cached_property
    def stems(self) -> Mapping[str, frozenset[str]]:
        """The names of the images in each folder, without endings."""
        grouped = _grouped((folder_of(file), spelling(stem(name_of(file)))) for file in self.images)
        return {folder: frozenset(names) for folder, names in grouped.items()}

    def ending_in(self, *suffixes: str) -> tuple[str, ...]:
        """Return the files whose names end so, whatever the case."""
        return tuple(file for file in self.files if file.lower().endswith(suffixes))

    def path(self, file: str) -> Path:
        """Return where a file or folder is."""
        return self.root / file


def index_folder(root: Path, *, pass_over: Callable[[InputError], object] | None = None) -> Index:
    """Look up what is below a folder, linked folders included.

    A folder below `root` that cannot be read is passed over if there is somebody to tell; otherwise it raises
    InputError, as `root` itself does.

    What is hidden by a dot, such as `._1.jpg` of macOS and `.ipynb_checkpoints`, is left out, and so is what condetr
    wrote: runs, models, predictions and cleaned copies. A folder that several links lead to, maybe in a circle, is
    looked up once, under its own name where that is below.

    Where no image is below, those in tar files count as if they had been unpacked beside them.
    """
    found: dict[str, Sequence[str]] = {}
    own: list[str] = []
    waiting, seen = deque([""]), set()
    while waiting:
        here = waiting.popleft()
        real = os.path.realpath(root / here)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = list_folder(root / here)
        except InputError as error:
            if not here or pass_over is None:
                raise
            pass_over(error)
            continue
        if here and _is_written_by_condetr(root / here, entries):
            own.append(f"{here}/")
            continue
        is_prediction = _PREDICTIONS in entries.files and not _BESIDE_PREDICTIONS.isdisjoint(
            (*entries.folders, *entries.links)
        )
        if is_prediction:
            own.append(join(here, _PREDICTIONS))
        hidden = {_PREDICTIONS, *_BESIDE_PREDICTIONS} if is_prediction else set()
        found[here] = [name for name in entries.files if name not in hidden]
        inner = [name for name in entries.folders if name not in hidden and name.lower() not in _NEVER_DATA]
        waiting.extendleft(join(here, name) for name in reversed(inner))
        waiting.extend(join(here, name) for name in entries.links if name not in hidden)
    if not any(is_image(name) for names in found.values() for name in names):
        _look_into_tars(root, found)
    stored = _grouped((folder_of(file), name_of(file)) for file in stored_below(root))
    found |= {folder: [*dict.fromkeys((*found.get(folder, ()), *names))] for folder, names in stored.items()}
    return Index(root, found, tuple(own))


def _look_into_tars(root: Path, folders: Mapping[str, Sequence[str]]) -> None:
    for folder, names in folders.items():
        tars = [name for name in names if name.lower().endswith(".tar")]
        if tars:
            enter_tars(root / folder, tars, wanted=is_image)


def list_folder(folder: Path) -> Entries:
    """Return what is in a folder; raises InputError where it cannot be read."""
    files: list[str] = []
    folders: list[str] = []
    links: list[str] = []
    try:
        with os.scandir(folder) as found:  # tells folders from files without asking the disk for each
            for entry in sorted(found, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    (links if entry.is_symlink() else folders).append(entry.name)
                elif entry.is_symlink() or entry.is_file():  # no pipe or socket, which reading would wait for
                    files.append(entry.name)
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {error.strerror}") from None
    return Entries(files, folders, links)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def join(folder: str, name: str) -> str:
    """Put a folder before a name, unless it is the root."""
    return f"{folder}/{name}" if folder else name


def folder_of(file: str) -> str:
    """Return the path of the folder that holds a file."""
    return file.rpartition("/")[0]


def name_of(file: str) -> str:
    """Return the last part of a path."""
    return file.rpartition("/")[2]


def stem(name: str) -> str:
    """Return a name without the ending of an image file; other endings, as in `clip.mp4#t=1054`, belong to it."""
    return name.rpartition(".")[0] if is_image(name) else name


def is_image(name: str) -> bool:
    """Tell whether a name ends like an image file's."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - a string for each of a million files


def spelling(name: str) -> str:
    """Return a name in one case and one form of Unicode, so that names which people take for the same are equal."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def shown_folder(folder: str) -> str:
    """Say a folder's path below the root."""
    return f"{folder}/" if folder else "the folder itself"


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped = defaultdict(list)
    for key, value in pairs:
        grouped[key].append(value)
    return dict(grouped)


def _is_written_by_condetr(folder: Path, entries: Entries) -> bool:
    """Tell a run, a model or a cleaned copy, in which nothing is data."""
    names = frozenset(entries.files)
    if names >= _RUN or names >= _MODEL:
        return True
    if _CLEANED not in names:
        return False
    with (folder / _CLEANED).open("rb") as stream:
        return b" dropped" in stream.readline(100)


def _is_built_in(codec: str) -> bool:
    known = codec in features.modules or codec in features.codecs  # PIL warns when asked for what it does not know
    return known and bool(features.check(codec))


_SUFFIXES_OF_CODECS = {
    "webp": (".webp",),
    "avif": (".avif", ".avifs"),
    "jpg_2000": (".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c"),
}
LACKING = {
    suffix: codec for codec, suffixes in _SUFFIXES_OF_CODECS.items() if not _is_built_in(codec) for suffix in suffixes
}
"""File name endings that this build of PIL cannot read, and the codec that each would take."""

SUFFIXES = (
    frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff"})
    | frozenset({".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".qoi"})
    | frozenset(suffix for suffixes in _SUFFIXES_OF_CODECS.values() for suffix in suffixes)
) - frozenset(LACKING)
"""File name endings, in lower case, by which folders are searched for images."""
