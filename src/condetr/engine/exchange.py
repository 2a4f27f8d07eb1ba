"""What the processes of one training tell one another; a single process has nobody to tell."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader

from condetr.data.batch import Batch
from condetr.errors import RunError
from condetr.losses.criterion import LossReport


class Agreement(NamedTuple):
    """What all processes know alike after a step."""

    losses: LossReport
    """Means over processes."""
    stop: bool
    """True if one of them was asked to stop."""


def agree(fabric: Fabric, losses: LossReport, *, stop: bool) -> Agreement:
    """Return the mean losses of a step, and whether to end after it, in one exchange."""
    if fabric.world_size == 1:
        return Agreement(losses, stop)
    together = torch.stack([*losses.values(), torch.tensor(float(stop), device=fabric.device)])
    *means, share = fabric.all_reduce(together, reduce_op="mean").unbind()  # type: ignore[union-attr]
    return Agreement(dict(zip(losses, means, strict=True)), stop=bool(share > 0))


def boxes_per_process(fabric: Fabric, batch: Batch) -> float:
    """Return the number of targets per process, at least 1 (DETR's normaliser)."""
    count = float(sum(len(target.labels) for target in batch.targets))
    if fabric.world_size > 1:  # else the device need not be waited for
        count = float(fabric.all_reduce(torch.tensor(count, device=fabric.device), reduce_op="mean"))  # type: ignore[arg-type]
    return max(count, 1.0)


@torch.no_grad()
def average_statistics(fabric: Fabric, *modules: nn.Module) -> None:
    """Give the batch norms of all processes the same statistics, so that they evaluate, and save, the same detector."""
    if fabric.world_size == 1:
        return
    for buffer in (buffer for module in modules for buffer in module.buffers() if buffer.is_floating_point()):
        buffer.copy_(fabric.all_reduce(buffer, reduce_op="mean"))  # type: ignore[arg-type]


@contextmanager
def lost_processes_named(*, checkpoint: Path) -> Iterator[None]:
    """Turn what follows when another process has died or hangs into a RunError that says where the training stands."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        lost = _lost_process(error)
        if lost is None:
            raise
        state = f"{checkpoint} is whole, go on with --resume auto" if checkpoint.is_file() else "nothing was saved yet"
        raise RunError(f"{lost}, so the training cannot go on: {state}") from error


def _lost_process(error: Exception) -> str | None:
    """Say what befell which process; gloo and DataLoader report that as plain RuntimeErrors.

    DataLoader lets the broken connection through where a reader dies while it hands over a batch.
    """
    text = str(error)
    if "DataLoader worker" in text or (not isinstance(error, RuntimeError) and _passed_the_loader(error)):
        why = "was memory short? set fewer data.workers, or a smaller data.cache_mb"
        return f"a process that reads images ({why}) has ended"
    if not isinstance(error, torch.distributed.DistError) and "gloo" not in text.lower():
        return None
    if "timed out" in text.lower():
        return "another of its processes hangs (it did not answer within process_timeout_minutes)"
    return "another of its processes has ended"


def _passed_the_loader(error: Exception) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == DataLoader.__module__ for frame, _ in frames)
