"""Let several processes of this machine share the shards of a job."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from condetr.errors import RunError
from condetr.inference.predictor import Predictor
from condetr.inference.shards.job import Done, Folder, Job, Shard
from condetr.inference.shards.work import Worker
from condetr.optimize.machine import usable_cores

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from multiprocessing.sharedctypes import Synchronized
    from multiprocessing.synchronize import Event

MakePredictor = Callable[[int], Predictor]
"""Makes the predictor of a worker, of which the number is given; it can be pickled."""

_SECONDS_BETWEEN_LOOKS = 0.2
_BYTES_OF_A_WORKER = 2 * 2**30
"""What a process takes with a large detector."""


def default_workers(device: str | None) -> int:
    """Return how many processes to use: one for each GPU, or for each core as far as memory is enough."""
    if device is not None and not device.startswith("cpu"):
        return torch.cuda.device_count() if device == "cuda" else 1
    if device is None and torch.cuda.is_available():
        return torch.cuda.device_count()
    if device is None and (torch.xpu.is_available() or torch.backends.mps.is_available()):
        return 1
    import psutil

    return max(1, min(usable_cores(), int(psutil.virtual_memory().available) // _BYTES_OF_A_WORKER))


def run_here(
    shards: Iterable[Shard], predictor: Predictor, job: Job, folder: Folder, *, advance: Callable[[int], object]
) -> Generator[Done]:
    """Do shards in this process; `advance` is called with how many images were looked at."""
    worker = Worker(predictor, job, folder)
    for shard in shards:
        yield worker.do(shard, advance=lambda: advance(1))


def run_in_processes(
    shards: Iterable[Shard],
    make_predictor: MakePredictor,
    job: Job,
    folder: Folder,
    *,
    workers: int,
    advance: Callable[[int], object],
) -> Generator[Done]:
    """Do shards in several processes, each with a detector of its own; they end with this one, however it ends.

    Raises RunError if a process dies or cannot write.
    """
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(
        workers,
        mp_context=context,
        initializer=_start,
        initargs=(make_predictor, job, folder, context.Value("i", 0), counter, stop, max(1, usable_cores() // workers)),
    )
    remaining, told = iter(shards), 0
    with pool:
        try:
            running = {pool.submit(_do, shard) for shard in islice(remaining, 2 * workers)}
            while running:
                finished, running = wait(running, timeout=_SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
                advance(counter.value - told)
                told = counter.value
                for future in finished:
                    yield future.result()
                running |= {pool.submit(_do, shard) for shard in islice(remaining, len(finished))}
        except BrokenProcessPool:
            raise RunError("a process that predicts died, maybe because memory is full: give fewer --workers") from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


class _Stopped(Exception):  # noqa: N818 - nothing is wrong
    """The shard is given up, as the command ends."""


_here: dict[str, Any] = {}
"""What the functions below keep in a worker's process."""


def _start(
    make_predictor: MakePredictor,
    job: Job,
    folder: Folder,
    index: "Synchronized[int]",
    counter: "Synchronized[int]",
    stop: "Event",
    threads: int,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command itself hears Ctrl-C, and says when to stop
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with index.get_lock():
        number = index.value
        index.value += 1
    torch.set_num_threads(threads)
    _here.update(worker=Worker(make_predictor(number), job, folder), counter=counter, stop=stop)


def _end_with(parent: "BaseProcess") -> None:
    parent.join()
    os._exit(1)


def _do(shard: Shard) -> Done:
    worker: Worker = _here["worker"]
    return worker.do(shard, advance=_advance)


def _advance() -> None:
    if _here["stop"].is_set():
        raise _Stopped
    with _here["counter"].get_lock():
        _here["counter"].value += 1
