"""What this machine computes fastest, and how it keeps memory."""

import ctypes
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Literal

import torch
from torch.nn import functional as F

from condetr.errors import InputError
from condetr.optimize.linear import convolve
from condetr.storage.remembered import remembered
from condetr.words import counted

MMAP_MAX, TRIM_THRESHOLD, TOP_PAD = -4, -1, -2
"""mallopt's parameters, from glibc's malloc.h."""
ROUNDS = 25
CLEARLY = 1.1
"""The ratio of two times from which the faster one is chosen."""

FastPrecision = Literal["auto", "fp32", "bf16"]
"""`auto` is bf16 where it is faster, otherwise fp32."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def keep_memory() -> bool:
    """Let this process keep freed memory and ask for large pages; return whether the system supports it.

    Feature maps of a large image are larger than the blocks that glibc keeps: those of every layer would be requested
    from the system, page by page, and returned. On two cores of an AMD EPYC (Zen 5), the fast form of Conditional
    DETR-R50 predicts an image of 800 x 1066 in 0.86 of its time (bf16 0.88). The process does not shrink again.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it when it first allocates
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*setting) for setting in ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**28)))


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_dtype(precision: FastPrecision, *, device: torch.device) -> torch.dtype:
    """Return the number format of a `precision` on a device."""
    if precision == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    if precision not in DTYPES:
        raise InputError(f"there is no precision {precision!r}: choose auto, fp32 or bf16")
    return DTYPES[precision]


def has_fast_bf16(device: torch.device) -> bool:
    """Tell whether a device computes faster in bf16 than in fp32; a CPU is timed once, which is then remembered."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _remembered("bf16 is faster", measure=_bf16_is_faster)


def has_fast_fp16(device: torch.device) -> bool:
    """Tell whether a device multiplies fp16 numbers much faster than fp32: GPUs from Volta (V100, T4) on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def is_slow(dtype: torch.dtype, *, device: torch.device) -> bool:
    """Tell whether a processor or an Nvidia GPU computes no faster in a number format than in fp32."""
    is_fast = {torch.bfloat16: has_fast_bf16, torch.float16: has_fast_fp16}.get(dtype)
    return is_fast is not None and device.type in ("cpu", "cuda") and not is_fast(device)


def has_fast_linear_layers() -> bool:
    """Tell whether this CPU computes fp32 linear layers as fast as convolutions; it is timed once."""
    return not _remembered("convolutions are faster than linear layers", measure=_convolutions_are_faster)


def _remembered(what: str, *, measure: Callable[[], bool]) -> bool:
    where = f"{counted(torch.get_num_threads(), 'thread')} of torch {torch.__version__}"
    with torch.inference_mode(mode=False), torch.enable_grad():
        return remembered(f"{what} with {where}", measure=measure)


def _bf16_is_faster() -> bool:
    x = torch.ones(1, 128, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.ones(128, 128, 3, 3).contiguous(memory_format=torch.channels_last).requires_grad_()

    def learn(*, in_bf16: bool) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=in_bf16):
            y = F.conv2d(x, weight, padding=1)
        y.backward(y.detach())

    return _is_faster(lambda: learn(in_bf16=True), than=lambda: learn(in_bf16=False))


def _convolutions_are_faster() -> bool:
    x, weight = torch.ones(800, 256), torch.ones(512, 256)
    return _is_faster(lambda: convolve(x, weight), than=lambda: F.linear(x, weight))


def _is_faster(run: Callable[[], object], *, than: Callable[[], object]) -> bool:
    """Compare the least times of several rounds of a millisecond, of which other work seldom interrupts all."""
    seconds = [[_seconds(each) for each in (run, than)] for _ in range(ROUNDS)]
    ours, theirs = map(min, zip(*seconds, strict=True))
    return bool(theirs > CLEARLY * ours)


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
