"""Alternating runs, and the rates of the machine that limit them."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional as F

from condetr.optimize.machine import FastPrecision, has_fast_bf16

PRECISIONS: tuple[FastPrecision, ...] = ("fp32", "bf16") if has_fast_bf16(torch.device("cpu")) else ("fp32",)
"""The number formats that this processor supports natively."""


def alternate(contenders: Mapping[str, Callable[[], object]], *, rounds: int, device: str = "cpu") -> dict[str, float]:
    """Return each contender's median seconds; they take turns, so that a slow minute of the machine affects all.

    Each run waits until the GPU has finished.
    """
    for run in contenders.values():
        run()
    _wait_for(device)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            _wait_for(device)
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _wait_for(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def matrix_rate(dtype: torch.dtype) -> float:
    """Return the operations a second of a 3x3 convolution of 256 channels on 50 x 67 cells, the best of five."""
    x = torch.randn(1, 256, 50, 67).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3).to(dtype, memory_format=torch.channels_last)
    operations = 2 * 256 * 256 * 9 * 50 * 67
    return operations / _best(lambda: F.conv2d(x, weight, padding=1))


@torch.inference_mode()
def product_rate(dtype: torch.dtype, *, device: str, side: int) -> float:
    """Return the operations a second of a product of two square matrices, the best of five."""
    x, y = torch.randn(2, side, side, dtype=dtype, device=device)
    return 2 * side**3 / _best(lambda: x @ y, device=device)


def memory_rate() -> float:
    """Return the bytes a second that a copy of 256 MiB reads and writes, the best of five."""
    source = torch.ones(2**26)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source))


def _best(run: Callable[[], object], *, device: str = "cpu") -> float:
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        run()
        _wait_for(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds[2:])
