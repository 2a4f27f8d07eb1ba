"""Start the processes' fabric: devices, precision, and one process or those that torchrun started."""

import os
from datetime import timedelta
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from condetr.engine.config import Precision
from condetr.errors import InputError
from condetr.inference.predictor import usable_device
from condetr.optimize.precision import has_native_bf16

DEVICES = ("cpu", "cuda", "mps")


def launch(*, precision: Precision, timeout_minutes: float, device: torch.device | None = None) -> Fabric:
    """Return a launched fabric; several processes and nodes are started by torchrun, one is the default.

    Without a `device` it is the GPU if there is one. An exchange between processes fails when one of them does not
    answer for `timeout_minutes`.
    """
    local, nodes = _processes_here(), int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator="auto" if device is None else device.type,
        devices=[device.index] if device is not None and device.index is not None else local,
        num_nodes=nodes,
        strategy=_several_processes(timeout_minutes) if local * nodes > 1 else "auto",
        precision=resolve_precision(precision, device=usable_device(device)),
    )
    fabric.launch()
    return fabric


def training_device(name: str) -> torch.device:
    """Return a device such as `cpu`, `cuda` or `cuda:1`; raises InputError where it cannot be trained on."""
    usable_device(name)
    device = torch.device(name)
    if device.type not in DEVICES:
        raise InputError(f"the device {name!r} cannot be trained on: give one of {', '.join(DEVICES)}")
    if device.type == "cpu":
        return torch.device("cpu")
    if device.index is not None and _processes_here() > 1:
        raise InputError(
            f"the device {name!r} is one, but {_processes_here()} processes train here: give {device.type}, and each "
            "takes its own"
        )
    return device


def resolve_precision(precision: Precision, *, device: torch.device) -> Literal["32-true", "bf16-mixed"]:
    """Return what `auto` means on a device: bf16 where it is computed natively."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if has_native_bf16(device) else "32-true"


def _processes_here() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _several_processes(timeout_minutes: float) -> DDPStrategy:
    # Not every parameter takes part in every step: those of denoising do not in a batch without boxes.
    return DDPStrategy(timeout=timedelta(minutes=timeout_minutes), find_unused_parameters=True)
