"""Find the images that a user names: files, folders and patterns."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from condetr.data.files import files_below
from condetr.data.images import SUFFIXES
from condetr.errors import InputError


def find_images(sources: Sequence[str]) -> list[Path]:
    """Return the image files behind files, folders and patterns such as `a/*.jpg`.

    Folders are searched with all their subfolders, linked ones too, but not for names that begin with a dot. The order
    is that of `sources`, sorted within each; a file that is named twice is returned once. A link that leads nowhere
    is returned: whoever reads it can say so.

    Raises InputError for a source that yields no image.
    """
    return list(dict.fromkeys(path for source in sources for path in _images_of(source)))


def _images_of(source: str) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = _image_files(files_below(path))
        missing = f"the folder {source} holds no image ({', '.join(sorted(SUFFIXES))})"
    else:
        found = _image_files(Path(name) for name in glob.glob(source, recursive=True))  # noqa: PTH207 - absolute patterns
        missing = f"{source} is neither an image file nor a folder, nor a pattern that some image matches"
    if not found:
        raise InputError(f"{missing}; give an image file, a folder or a quoted pattern")
    return found


def _image_files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and not path.is_dir())
