"""What the machine offers to a training."""

import os
import sys
from typing import NamedTuple

import psutil
import torch


class Machine(NamedTuple):
    """Cores and memory; the memory is the GPU's where there is one."""

    cores: int
    ram_bytes: int
    gpu: str | None
    gpu_bytes: int

    @property
    def training_bytes(self) -> int:
        """Memory for weights and activations."""
        return self.gpu_bytes if self.gpu else self.ram_bytes

    @property
    def name(self) -> str:
        """How a sentence names it."""
        return f"{self.gpu} with {gib(self.gpu_bytes)}" if self.gpu else f"processor with {gib(self.ram_bytes)}"


def this_machine() -> Machine:
    """Look at the machine that this process runs on."""
    properties = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return Machine(
        cores=usable_cores(),
        ram_bytes=psutil.virtual_memory().total,
        gpu=properties.name if properties else None,
        gpu_bytes=properties.total_memory if properties else 0,
    )


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gib(count: int) -> str:
    """Say a number of bytes in GiB."""
    return f"{count / 2**30:.1f} GiB"
