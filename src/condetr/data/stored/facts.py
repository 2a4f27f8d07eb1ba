"""What was found out about images, remembered for those in a storage, where asking about a million takes long."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from condetr.data.stored.places import Stored, home_of, stored_at
from condetr.errors import InputError
from condetr.storage.atomic import replaced_file
from condetr.storage.remote import is_remote

T = TypeVar("T")
R = TypeVar("R")

_THREADS, _REMOTE_THREADS = 8, 32
Fact = list[Any] | str


def find_out(paths: Sequence[Path], find: Callable[[Path], Fact | InputError], *, what: str) -> list[Fact | InputError]:
    """Return what `find` says about each image, from several threads; what it says in earnest is remembered.

    That is done for images in a storage, as long as they do not change; processes that start together ask once.
    """
    remote: dict[Path, dict[Path, Stored]] = {}
    for path in paths:
        stored = stored_at(path)
        if stored is not None and is_remote(stored.holder):
            remote.setdefault(home_of(path), {})[path] = stored
    found: dict[Path, Fact | InputError] = {}
    for home, images in remote.items():
        found |= _recalled(home / f"{what}.json", images, find)
    others = [path for path in paths if path not in found]
    with ThreadPoolExecutor(_THREADS) as pool:
        found |= zip(others, pool.map(find, others), strict=True)
    return [found[path] for path in paths]


def _recalled(
    memory: Path, images: dict[Path, Stored], find: Callable[[Path], Fact | InputError]
) -> dict[Path, Fact | InputError]:
    with FileLock(memory.with_suffix(".lock")):
        known: dict[str, Fact] = {}
        with suppress(OSError, ValueError):
            known = json.loads(memory.read_text(encoding="utf-8"))
        keys = {path: stored.key for path, stored in images.items()}
        found: dict[Path, Fact | InputError] = {path: known[key] for path, key in keys.items() if key in known}
        missing = [path for path in images if path not in found]
        new = dict(zip(missing, in_threads(find, missing), strict=True))
        if new:
            known |= {keys[path]: fact for path, fact in new.items() if not isinstance(fact, InputError)}
            with replaced_file(memory) as draft:
                draft.write_text(json.dumps(known), encoding="utf-8")
    return found | new


def in_threads(work: Callable[[T], R], items: Sequence[T], *, doing: str = "looking at images") -> Iterator[R]:
    """Yield what `work` returns for each item, in order, from many threads, because each waits for a storage."""
    from rich.console import Console
    from rich.progress import track

    terminal = Console(stderr=True)
    with ThreadPoolExecutor(_REMOTE_THREADS) as pool:
        yield from track(
            pool.map(work, items),
            description=doing,
            total=len(items),
            console=terminal,
            transient=True,
            disable=not terminal.is_terminal or len(items) < _REMOTE_THREADS,
        )
