"""Communication between the processes of one training; a single process skips it."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.plugins.precision import Precision as FullPrecision
from lightning_fabric.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader

from condetr.data.batch import Batch
from condetr.engine.config import Precision, TrainConfig
from condetr.errors import InputError, RunError
from condetr.inference.predictor import usable_device
from condetr.losses.criterion import LossReport
from condetr.optimize.machine import has_fast_bf16, has_fast_fp16
from condetr.words import counted

LOST = "another of its processes"
"""Begins the sentence of a process that cannot continue without another one."""


class Agreement(NamedTuple):
    """Values on which all processes agree after a step."""

    losses: LossReport
    """Means over processes."""
    stop: bool
    """True if one of them was asked to stop."""


def agree(fabric: Fabric, losses: LossReport, *, stop: bool) -> Agreement:
    """Return the mean losses of a step, and whether to stop after it, in one all-reduce."""
    if fabric.world_size == 1:
        return Agreement(losses, stop)
    together = torch.stack([*losses.values(), torch.tensor(float(stop), device=fabric.device)])
    *means, share = fabric.all_reduce(together, reduce_op="mean").unbind()  # type: ignore[union-attr]
    return Agreement(dict(zip(losses, means, strict=True)), stop=bool(share > 0))


def boxes_per_process(fabric: Fabric, batch: Batch) -> float:
    """Return the number of targets per process, at least 1 (DETR's normaliser)."""
    count = float(sum(batch.targets.counts))
    if fabric.world_size > 1:  # otherwise there is no need to wait for the device
        count = float(fabric.all_reduce(torch.tensor(count, device=fabric.device), reduce_op="mean"))  # type: ignore[arg-type]
    return max(count, 1.0)


@torch.no_grad()
def share_statistics(fabric: Fabric, *modules: nn.Module) -> None:
    """Give all processes the first one's statistics of batch norms, so that they evaluate the same detector.

    A mean over the processes could not be resumed exactly, because a checkpoint has those of the first process alone.
    DDP, too, begins every step with them.
    """
    if fabric.world_size > 1:
        for buffer in (buffer for module in modules for buffer in module.buffers()):
            torch.distributed.broadcast(buffer, src=0)


@contextmanager
def lost_processes_named(*, checkpoint: Path) -> Iterator[None]:
    """Turn the errors after another process died or hangs into a RunError that names the last checkpoint."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        lost = _lost_process(error)
        if lost is None:
            raise
        raise RunError(f"{lost}, so the training cannot continue: {kept_state(checkpoint)}") from error


def kept_state(checkpoint: Path) -> str:
    """Say what is kept of a training that has ended."""
    return f"{checkpoint} is complete, continue with --resume auto" if checkpoint.is_file() else "nothing was saved yet"


def _lost_process(error: Exception) -> str | None:
    """Say which process died or hangs; gloo and DataLoader report that as plain RuntimeErrors.

    If a worker dies while it transfers a batch, DataLoader passes on the error of the broken connection.
    """
    text = str(error)
    if "DataLoader worker" in text or (not isinstance(error, RuntimeError) and _passed_the_loader(error)):
        why = "out of memory? set fewer data.workers, or a smaller data.cache_mb"
        return f"a process that reads images ({why}) has ended"
    if not isinstance(error, torch.distributed.DistError) and "gloo" not in text.lower():
        return None
    if "timed out" in text.lower():
        return f"{LOST} hangs (it did not answer within process_timeout_minutes)"
    return f"{LOST} has ended"


def _passed_the_loader(error: Exception) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == DataLoader.__module__ for frame, _ in frames)


class Autocast(MixedPrecision):
    """Computes in 16 bits where torch's autocast does; what the detector is given stays as it is.

    Fabric would round it all before, the boxes of the targets too, by up to half a pixel in 250.

    In fp16, whose smallest numbers gradients undercut, a scaler multiplies the loss. Fabric would silently leave out a
    step whose gradient is not finite, and cannot unscale gradients of fused optimizers; here the caller decides.
    """

    def convert_input(self, data: Any) -> Any:  # noqa: ANN401
        """Return the data unchanged."""
        return data

    def unscale_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Undo the scaling of the loss in the gradients of an optimizer."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def optimizer_step(self, optimizer: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Make a step with gradients that were unscaled and found to be finite."""
        return optimizer.step(**kwargs)


def loss_scaler(fabric: Fabric) -> torch.amp.GradScaler | None:
    """Return what scales the loss in fp16."""
    precision = fabric.strategy.precision
    return precision.scaler if isinstance(precision, Autocast) else None


DEVICES = ("cpu", "cuda", "mps")


def launch(
    config: TrainConfig, *, device: torch.device | None = None, has_idle_parameters: Callable[[], bool] = lambda: True
) -> Fabric:
    """Return a launched fabric, of one process unless torchrun started several.

    Without a `device` it uses the GPU if there is one. Communication between processes fails when one of them does not
    answer for `process_timeout_minutes`. Several processes need to know whether some parameters get no gradient.
    """
    local, nodes = _processes_here(), int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    computed_on = _default_device() if device is None else device
    _require_enough(computed_on, processes=local)
    precision = resolve_precision(config.precision, device=computed_on)
    fabric = Fabric(
        accelerator="auto" if device is None else device.type,
        devices=[device.index] if device is not None and device.index is not None else local,
        num_nodes=nodes,
        strategy=_several_processes(config, has_idle_parameters=has_idle_parameters()) if local * nodes > 1 else "auto",
        plugins=[FullPrecision() if precision == "32-true" else Autocast(precision, computed_on.type)],
    )
    fabric.launch()
    return fabric


def training_device(name: str) -> torch.device:
    """Return a device such as `cpu`, `cuda` or `cuda:1`; raises InputError if training on it is impossible."""
    with suppress(RuntimeError):  # no device at all, which usable_device says
        if torch.device(name).type not in DEVICES:
            raise InputError(f"the device {name!r} cannot be trained on: give one of {', '.join(DEVICES)}")
    usable_device(name)
    device = torch.device(name)
    if device.type == "cpu":
        return torch.device("cpu")
    if device.index is not None and _processes_here() > 1:
        raise InputError(
            f"the device {name!r} is one, but {_processes_here()} processes train here: give {device.type}, and each "
            "takes its own"
        )
    return device


def resolve_precision(precision: Precision, *, device: torch.device) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """Return the precision that `auto` means on a device: bf16 or fp16 if it computes faster in it than in fp32."""
    if precision != "auto":
        return precision
    if has_fast_bf16(device):
        return "bf16-mixed"
    return "16-mixed" if has_fast_fp16(device) else "32-true"


def _default_device() -> torch.device:
    """Return the kind of device that Fabric chooses by itself."""
    device = usable_device()
    return device if device.type in DEVICES else torch.device("cpu")


def _require_enough(device: torch.device, *, processes: int) -> None:
    if device.type == "cpu" or processes == 1:
        return
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if count < processes:
        raise InputError(
            f"{processes} processes cannot share {counted(count, 'GPU')} ({device.type}): start at most one for each, "
            "or give --device cpu"
        )


def _processes_here() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _several_processes(config: TrainConfig, *, has_idle_parameters: bool) -> DDPStrategy:
    # Searching for unused parameters takes time in every step, so check once whether there are any.
    return DDPStrategy(
        timeout=timedelta(minutes=config.process_timeout_minutes),
        find_unused_parameters=has_idle_parameters,
    )
