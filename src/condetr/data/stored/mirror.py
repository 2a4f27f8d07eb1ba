"""A data set at an address: its annotations are copied, its images stay where they are until they are read."""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from filelock import FileLock

from condetr.data.index import is_image
from condetr.data.stored.facts import in_threads
from condetr.data.stored.places import Places, Stored, enter
from condetr.data.stored.tars import merged, spans_in_tar
from condetr.errors import InputError
from condetr.storage.atomic import replaced_file
from condetr.storage.remembered import cache_folder
from condetr.storage.remote import is_url, opened, read_part, tried
from condetr.words import counted

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)", re.IGNORECASE)
_ANNOTATIONS = (".json", ".xml", ".txt", ".csv", ".yaml", ".yml", ".names", ".data")
_STILL_FRESH = 60  # seconds in which processes that start together need not list the same again
_STAMPS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")
_DEFAULT_GIB = 20.0


class Mirror(NamedTuple):
    """What stands for the data set at an address."""

    folder: Path
    """With copies of the annotations."""
    told: str
    """A line about where the images are, and are kept."""


class _File(NamedTuple):
    """A file in a storage."""

    address: str
    size: int
    stamp: str


def address_of(path: Path) -> str | None:
    """Return the address that a path was made of, which took one of its slashes; None if it is none."""
    match = _ADDRESS.fullmatch(path.as_posix())
    if match is None or path.exists():
        return None
    scheme, rest = match.groups()
    return f"{scheme}://{'/' if scheme in ('file', 'local') else ''}{rest}"


@cache
def mirror(address: str) -> Mirror:
    """Copy the annotations below an address, and look up the images there; both are kept in the user's cache.

    Of images in tar files, as of others, only the headers are read. Raises InputError if there is no data set, or the
    connection fails.
    """
    home = _home(address)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        images = _images(address, home)
    limit = cache_bytes()
    total = sum(each.size for each in images.values())
    share = min(1.0, limit / total) if total else 1.0
    enter(home / "files", Places(images, home=home, share=share))
    kept = f"up to {limit / 2**30:g} GiB of them" if share < 1 else "once read, all of them"
    return Mirror(
        home / "files", f"{address}: {counted(len(images), 'image')}, {total / 2**30:.1f} GiB; kept in {home}: {kept}"
    )


def cache_bytes() -> int:
    """Return how much of the disk the images of one address may take."""
    given = os.environ.get("CONDETR_CACHE_GIB", "")
    try:
        gib = float(given) if given else _DEFAULT_GIB
    except ValueError:
        gib = -1.0
    if not 0 <= gib < float("inf"):
        raise InputError(f"CONDETR_CACHE_GIB={given} is no size: give GiB of the disk, such as 50, or 0")
    return int(gib * 2**30)


def _home(address: str) -> Path:
    name = re.sub(r"[^\w.-]+", "_", address.rstrip("/").rpartition("/")[2]) or "data"
    return cache_folder() / "data" / f"{name}-{hashlib.sha256(address.rstrip('/').encode()).hexdigest()[:12]}"


def _images(address: str, home: Path) -> dict[str, Stored]:
    """Return the images, as they were looked up a moment ago by another process, otherwise as they are now."""
    known = _read_json(home / "listing.json")
    images = {name: Stored(*each) for name, each in known.get("images", {}).items()}
    if time.time() - known.get("listed", 0) < _STILL_FRESH:
        return images
    files = _listed(address)
    loose = {name: Stored(file.address, 0, file.size, file.stamp) for name, file in files.items() if is_image(name)}
    found = loose or _in_tars({name: file for name, file in files.items() if name.endswith(".tar")}, known=images)
    if not found:
        raise InputError(
            f"{address} holds no images, of {counted(len(files), 'file')} there: give the address of a folder with "
            "images, or uncompressed .tar files of them, and annotations"
        )
    copies = _copy(files, home, known=known.get("copies", {}))
    if not copies:
        raise InputError(
            f"{address} holds {counted(len(found), 'image')} but no annotations: put them beside the images"
        )
    _tidy(home / "images", keep={each.key for each in found.values()})
    with replaced_file(home / "listing.json") as draft:
        draft.write_text(json.dumps({"listed": time.time(), "copies": copies, "images": found}), encoding="utf-8")
    return found


def _listed(address: str) -> dict[str, _File]:
    """Return the files below an address by their paths below it, without hidden ones."""
    system, root = opened(address)
    what = f"{address} cannot be listed"
    details: dict[str, dict[str, Any]] = tried(lambda: system.find(root, detail=True), what=what)
    root = f"{root.rstrip('/')}/"
    files: dict[str, dict[str, Any]] = {}
    for path, info in details.items():
        name = unquote(path.removeprefix(root)) if is_url(address) else path.removeprefix(root)
        if path.startswith(root) and not any(part.startswith(".") for part in name.split("/")):
            files[name] = {**info, "path": path}
    if not files:
        raise InputError(f"{address} holds no files: give the address of the data set's folder")

    def with_size(info: dict[str, Any]) -> _File:
        if info.get("size") is None:  # web servers list names alone
            info |= tried(lambda: system.info(info["path"]), what=f"{info['path']} cannot be found")
        if info.get("size") is None:
            raise InputError(f"{info['path']}: the server does not tell its size, so it cannot be read in parts")
        stamp = next((str(info[name]) for name in _STAMPS if info.get(name)), "")
        return _File(str(system.unstrip_protocol(info["path"])), int(info["size"]), stamp)

    wanted = {name: info for name, info in files.items() if is_image(name) or name.endswith((".tar", *_ANNOTATIONS))}
    return dict(zip(sorted(wanted), in_threads(with_size, [wanted[name] for name in sorted(wanted)]), strict=True))


def _in_tars(files: Mapping[str, _File], *, known: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return the images in tar files as if each had been unpacked where it lies; known ones are not opened again."""
    by_holder: dict[tuple[str, str], dict[str, Stored]] = {}
    for name, stored in known.items():
        by_holder.setdefault((stored.holder, stored.stamp), {})[name] = stored

    def inside(item: tuple[str, _File]) -> dict[str, Stored]:
        name, file = item
        if (file.address, file.stamp) in by_holder:
            return by_holder[file.address, file.stamp]
        system, path = opened(file.address)
        with system.open(path, "rb", block_size=2**20) as stream:
            spans = spans_in_tar(stream, name=file.address, wanted=is_image)
        before = name.rpartition("/")[0]
        return {
            f"{before}/{image}" if before else image: Stored(file.address, span.offset, span.size, file.stamp)
            for image, span in spans.items()
        }

    return merged(in_threads(inside, list(files.items()), doing="looking through tar files"))


def _copy(files: Mapping[str, _File], home: Path, *, known: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Make the copies of annotations what the storage has now, and return their versions."""
    copies = {name: [file.size, file.stamp] for name, file in files.items() if name.endswith(_ANNOTATIONS)}
    for gone in known.keys() - copies.keys():
        (home / "files" / gone).unlink(missing_ok=True)

    def copy(name: str) -> None:
        path = home / "files" / name
        if known.get(name) == copies[name] and path.is_file():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as draft:
            draft.write_bytes(read_part(files[name].address, offset=0, size=files[name].size))

    (home / "files").mkdir(exist_ok=True)
    list(in_threads(copy, list(copies), doing="copying annotations"))
    return copies


def _tidy(folder: Path, *, keep: set[str]) -> None:
    for path in folder.glob("*/*"):
        if path.name not in keep:
            path.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content
