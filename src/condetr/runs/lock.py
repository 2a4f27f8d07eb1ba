"""The lock on a run folder: two trainings in one folder would remove and replace each other's files."""

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
    """Keep other trainings out of a run folder while the block lasts; the processes of one training share the lock.

    The first process takes it, and `broadcast` returns to all processes what that one gives.

    The operating system holds it, so it ends when the process does, in whatever way. Where the file system has no
    locks, the training goes on without. Raises InputError in all processes if another training has the folder. A folder
    that is empty at the end, and was not there before, is removed.
    """
    made = [folder for folder in (run.path, *run.path.parents) if not folder.exists()]
    lock = FileLock(run.lock, blocking=False, on_acquired=_sign)
    refusal: str | None = None
    if is_first_process:
        try:
            _acquire(lock, run)
            run.require_usable(resume=resume)  # another training may have come and gone since it was asked first
        except InputError as error:
            refusal = str(error)
    refusal = broadcast(refusal)
    try:
        if refusal is not None:
            raise InputError(refusal)
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows lets nobody remove an open file, and filelock does so later
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
            f"another training, {_holder(run)}, is at work in {run.path}: let it end, stop it, or choose another "
            "folder with --out"
        ) from None
    except OSError:  # no locks there, and whether it can be written to is found out by those who write
        return


def _sign(descriptor: int) -> None:
    """Write who has the lock behind the first byte, which nobody else can read on Windows."""
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
