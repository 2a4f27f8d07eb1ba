"""Measurements of this machine, kept in the user's cache, so that all processes and later runs agree on them."""

import hashlib
import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

from filelock import FileLock
from platformdirs import user_cache_path

from condetr.storage.atomic import replaced_file

T = TypeVar("T", bool, str)

_known: dict[str, bool | str] = {}


def remembered(what: str, *, measure: Callable[[], T]) -> T:
    """Return what was measured here under this name, and measure it the first time.

    Files in the cache may be deleted at any time. Where it cannot be written, each process measures once.
    """
    name = f"{what}, on {platform.node()}"
    if name not in _known:
        try:
            _known[name] = _from_cache(name, measure)
        except OSError:
            _known[name] = measure()
    return cast(T, _known[name])


def cache_folder() -> Path:
    """Return the folder in the variable CONDETR_CACHE, by default the system's for caches."""
    return Path(os.environ.get("CONDETR_CACHE") or user_cache_path("condetr"))


def _from_cache(name: str, measure: Callable[[], bool | str]) -> bool | str:
    folder = cache_folder() / "measured"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
    with FileLock(path.with_suffix(".lock")):  # processes that start together measure one after the other
        with suppress(OSError, ValueError, KeyError, TypeError):  # missing, or damaged
            value = json.loads(path.read_text())["value"]
            if isinstance(value, bool | str):
                return value
        value = measure()
        with replaced_file(path) as draft:
            draft.write_text(json.dumps({"measured": name, "value": value}) + "\n")
        return value
