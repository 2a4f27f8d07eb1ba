"""Find the images and videos that a user names: files, folders, patterns, addresses, cameras, lists on stdin."""

import glob
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from condetr.data.files import files_below, read_text
from condetr.data.index import SUFFIXES, is_image
from condetr.data.stored.places import stored_at
from condetr.errors import InputError, InputWarning
from condetr.inference.download import file_name_of
from condetr.inference.remote import images_below
from condetr.storage.remote import is_remote, is_url
from condetr.words import counted

_BESIDE_IMAGES = frozenset({".txt", ".json", ".xml", ".yaml", ".yml", ".csv", ".md", ".cache", ".ini", ".db"})
"""Suffixes of labels, lists and similar files, which are clearly no images."""
_NAMED = 3  # the number of files that a message names
_STREAM = re.compile(r"(rtsps?|rtmps?|srt|udp)://.+|camera(:.+)?", re.IGNORECASE)
VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
        *(".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    )
)

ImageSource = Path | str
"""An image file, or an address on the web or in object storage."""


class Sources(NamedTuple):
    """What is to be looked at."""

    images: tuple[ImageSource, ...]
    videos: tuple[str, ...]
    """Files, addresses, streams and cameras, as they were named."""


class _Named(NamedTuple):
    """A source as it was given."""

    source: str
    is_listed: bool
    """Whether it comes from a list, which may be long and old: what it lacks is not refused, but left out."""


def find_sources(sources: Sequence[str], *, lines: Iterable[str] = ()) -> Sources:
    """Return the images and videos behind what is named; `-` stands for `lines`, and `@FILE` for those of a file.

    Web addresses are images, or videos by their ending. Addresses in object storage, such as s3://bucket/folder, are
    images, folders or patterns. `camera` and `camera:1` are cameras, and rtsp:// and the like are streams. Video files
    are named themselves, or by a pattern that matches no image: of a folder only images are taken. A line of a list
    that ends like an image is not looked up. Everything else is as `find_images` says. Raises InputError for a source
    that yields nothing; one from a list is left out with an InputWarning.
    """
    images: dict[ImageSource, None] = {}
    videos: dict[str, None] = {}
    refused: InputError | None = None
    for source, is_listed in _expanded(sources, lines=lines):
        try:
            if _is_video(source):
                videos[source] = None
            elif is_url(source):
                images[source] = None
            elif is_remote(source):
                images |= dict.fromkeys(images_below(source))
            elif is_listed and is_image(source) and not glob.has_magic(source):
                images[Path(source)] = None
            elif found := _videos_of_pattern(source):
                videos |= dict.fromkeys(found)
            else:
                images |= dict.fromkeys(_images_of(source))
        except InputError as error:
            if not is_listed:
                raise
            refused = error
            _warn_of(error)
    if refused is not None and not images and not videos:
        raise refused
    return Sources(tuple(images), tuple(videos))


def is_live(video: str) -> bool:
    """Tell whether a video has no end of its own: a camera or a stream."""
    return bool(_STREAM.fullmatch(video)) and not Path(video).is_file()


def stem_of(source: ImageSource) -> str:
    """Return a source's file name without its ending."""
    if isinstance(source, str) and is_remote(source) and not is_live(source):
        return re.sub(r"[^\w.-]+", "_", Path(file_name_of(source)).stem)
    if isinstance(source, str) and is_live(source):
        return re.sub(r"\W+", "_", source).strip("_")
    return Path(source).stem


def _expanded(sources: Sequence[str], *, lines: Iterable[str] = ()) -> Iterator[_Named]:
    for source in sources:
        if source == "-":
            yield from _listed(
                lines, empty="- stands for sources on stdin, a line each, but there was none; pipe some in"
            )
        elif source.startswith("@") and not Path(source).exists():
            file = Path(source[1:])
            empty = f"{source} stands for the sources in {file}, a line each, but there is none; write some"
            yield from _listed(read_text(file).splitlines(), empty=empty)
        elif not source.strip():
            raise InputError("a source is empty: give an image, a folder, a quoted pattern, an address or a video")
        else:
            yield _Named(source, is_listed=False)


def _listed(lines: Iterable[str], *, empty: str) -> Iterator[_Named]:
    named = [_Named(line.strip(), is_listed=True) for line in lines if line.strip()]
    if not named:
        raise InputError(empty)
    yield from named


def _is_video(source: str) -> bool:
    if is_url(source):
        return Path(file_name_of(source)).suffix.lower() in VIDEO_SUFFIXES
    return is_live(source) or (Path(source).is_file() and Path(source).suffix.lower() in VIDEO_SUFFIXES)


def _videos_of_pattern(source: str) -> list[str]:
    """Return the videos that a pattern matches, if they are all that it matches of images and videos."""
    if Path(source).exists():
        return []
    files = [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207 - absolute patterns
    if any(file.suffix.lower() in SUFFIXES for file in files):
        return []
    return sorted(str(file) for file in files if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())


def find_images(sources: Sequence[str]) -> list[Path]:
    """Return the image files behind files, folders and patterns such as `a/*.jpg`.

    Folders are searched with all their subfolders, linked ones too; names that begin with a dot are skipped. The order
    is that of `sources`, sorted within each; a file that is named twice is returned once. A broken link is returned, so
    that reading it reports the error. Other files of a folder or pattern are left out with an InputWarning, except for
    labels and lists, which are left out silently.

    Raises InputError for a source that yields no image.
    """
    return list(dict.fromkeys(path for source, _ in _expanded(sources) for path in _images_of(source)))


def _images_of(source: str) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [file for file in files_below(path, pass_over=_warn_of) if stored_at(file) is None]
        missing = f"the folder {source} holds no image ({', '.join(sorted(SUFFIXES))})"
    else:
        files = [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207 - absolute patterns
        missing = f"{source} is neither an image file nor a folder, nor a pattern that some image matches"
    found = sorted(file for file in files if file.suffix.lower() in SUFFIXES and not file.is_dir())
    left_out = _left_out(files)
    if not found:
        has_videos = any(file.suffix.lower() in VIDEO_SUFFIXES for file in files)
        cure = "an image file, a folder or a quoted pattern" + (", or the names of videos" if has_videos else "")
        raise InputError(f"{missing}{left_out and f', but {left_out}'}; give {cure}")
    if left_out:
        warnings.warn(
            f"left out of {source}: {left_out}; convert what you need to JPEG or PNG, and name videos themselves",
            InputWarning,
            stacklevel=4,
        )
    return found


def _warn_of(error: InputError) -> None:
    warnings.warn(f"left out: {error}", InputWarning, stacklevel=4)


def _left_out(files: Iterable[Path]) -> str:
    """Return a text that counts the files that are neither images nor labels, and names the first ones."""
    others = sorted(
        file for file in files if file.suffix.lower() not in SUFFIXES | _BESIDE_IMAGES and not file.is_dir()
    )
    if not others:
        return ""
    names = ", ".join(file.name for file in others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
    return f"{counted(len(others), 'file')} that cannot be read as images ({names})"
