"""Start the processes' fabric: devices, precision, and one process or those that torchrun started."""

import os
from datetime import timedelta
from typing import Literal

from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from condetr.engine.config import Precision
from condetr.inference.predictor import usable_device
from condetr.optimize.precision import has_native_bf16


def launch(*, precision: Precision, timeout_minutes: float) -> Fabric:
    """Return a launched fabric; several processes and nodes are started by torchrun, one is the default.

    An exchange between processes fails when one of them does not answer for `timeout_minutes`.
    """
    local, nodes = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator="auto",
        devices=local,
        num_nodes=nodes,
        strategy=_several_processes(timeout_minutes) if local * nodes > 1 else "auto",
        precision=resolve_precision(precision),
    )
    fabric.launch()
    return fabric


def _several_processes(timeout_minutes: float) -> DDPStrategy:
    # Not every parameter takes part in every step: those of denoising do not in a batch without boxes.
    return DDPStrategy(timeout=timedelta(minutes=timeout_minutes), find_unused_parameters=True)


def resolve_precision(precision: Precision) -> Literal["32-true", "bf16-mixed"]:
    """Return what `auto` means on this machine: bf16 where it is computed natively."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if has_native_bf16(usable_device()) else "32-true"
