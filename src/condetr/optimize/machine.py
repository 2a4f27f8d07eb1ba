"""How the process asks for memory, which is a sixth of the time of a prediction on a CPU."""

import ctypes
import os
import platform
from typing import Literal

import torch

from condetr.errors import InputError

MMAP_MAX, TRIM_THRESHOLD, TOP_PAD = -4, -1, -2
"""mallopt's parameters, from glibc's malloc.h."""


def keep_memory() -> bool:
    """Let this process keep memory that it frees, and ask for large pages; tell whether the system can.

    Feature maps of a large image are larger than what glibc keeps: every layer's would be fetched from the system, page
    by page, and returned. On two cores of an AMD EPYC, Conditional DETR-R50 predicts an image of 800 x 1066 in 474 ms
    instead of 552 (fp32) and 260 instead of 287 (bf16). The process stays as large as it ever was.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it when it first allocates
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*setting) for setting in ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**28)))


FastPrecision = Literal["auto", "fp32", "bf16"]
"""`auto` is bf16 where the processor or GPU computes in it natively, fp32 elsewhere."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def resolve_dtype(precision: FastPrecision, *, device: torch.device) -> torch.dtype:
    """Return the number format that `precision` means on a device."""
    if precision == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    if precision not in DTYPES:
        raise InputError(f"no precision is called {precision!r}: choose auto, fp32 or bf16")
    return DTYPES[precision]


def has_native_bf16(device: torch.device) -> bool:
    """Tell whether a device multiplies bf16 numbers without turning them into fp32 first."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or has_matrix_tiles()
    return False


def is_emulated(dtype: torch.dtype, *, device: torch.device) -> bool:
    """Tell whether a processor or an Nvidia GPU computes in a number format by way of others, which takes longer."""
    return dtype == torch.bfloat16 and device.type in ("cpu", "cuda") and not has_native_bf16(device)


def has_matrix_tiles() -> bool:
    """Tell whether the processor multiplies small matrices in one instruction (AMX)."""
    return torch.cpu._is_amx_tile_supported()
