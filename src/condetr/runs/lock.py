"""The lock on a run folder: two trainings in one folder would delete and replace each other's files."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from condetr.errors import InputError
from condetr.runs.folder import RunFolder

_MOST_SHOWN = 200


@contextmanager
def locked(
    run: RunFolder, *, resume: bool, is_first_process: bool, broadcast: Callable[[str | None], str | None]
) -> Iterator[None]:
    """Lock a run folder against other trainings inside the block; the processes of one training share the lock.

    The first process takes it, and `broadcast` sends a value of the first process to all.

    The operating system holds the lock, so it ends with the process, even if that is killed. On a file system without
    locks, the training runs without one. Raises InputError in all processes if another training has the folder. A
    folder that is empty at the end, and did not exist before, is removed.
    """
    made = [folder for folder in (run.path, *run.path.parents) if not folder.exists()]
    lock = FileLock(run.lock, blocking=False, on_acquired=_sign)
    refusal: str | None = None
    if is_first_process:
        try:
            _acquire(lock, run)
            run.require_usable(resume=resume)  # another training may have used it since the first check
        except InputError as error:
            refusal = str(error)
    refusal = broadcast(refusal)
    try:
        if refusal is not None:
            raise InputError(refusal)
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows cannot delete an open file; filelock deletes it later
                run.lock.unlink()
            lock.release()
        if is_first_process:
            with suppress(OSError):  # it is not empty
                for folder in made:
                    folder.rmdir()


def _acquire(lock: FileLock, run: RunFolder) -> None:
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another training, {_holder(run)}, is using {run.path}: let it end, stop it, or choose another "
            "folder with --out"
        ) from None
    except OSError:  # no locks there; if the folder is not writable, writing will report it
        return


def _sign(descriptor: int) -> None:
    """Write the holder of the lock after the first byte, because Windows locks that byte for reading."""
    with suppress(OSError):
        os.truncate(descriptor, 0)
        os.write(descriptor, f"\nprocess {os.getpid()} on {platform.node()}".encode())


def _holder(run: RunFolder) -> str:
    try:
        with run.lock.open("rb", buffering=0) as file:
            file.seek(1)
            return file.read(_MOST_SHOWN).decode(errors="replace") or "an unknown process"
    except OSError:
        return "an unknown process"
