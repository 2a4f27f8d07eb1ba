"""Memory allocation, which takes a sixth of the time of a prediction on a CPU, and native number formats."""

import ctypes
import os
import platform
from typing import Literal

import torch

from condetr.errors import InputError

MMAP_MAX, TRIM_THRESHOLD, TOP_PAD = -4, -1, -2
"""mallopt's parameters, from glibc's malloc.h."""


def keep_memory() -> bool:
    """Let this process keep freed memory and ask for large pages; return whether the system supports it.

    Feature maps of a large image are larger than the blocks that glibc keeps: those of every layer would be requested
    from the system, page by page, and returned. On two cores of an AMD EPYC, Conditional DETR-R50 predicts an image of
    800 x 1066 in 474 ms instead of 552 (fp32) and 260 instead of 287 (bf16). The process does not shrink again.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it when it first allocates
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*setting) for setting in ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**28)))


FastPrecision = Literal["auto", "fp32", "bf16"]
"""`auto` is bf16 if the processor or GPU supports it natively, otherwise fp32."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def resolve_dtype(precision: FastPrecision, *, device: torch.device) -> torch.dtype:
    """Return the number format of a `precision` on a device."""
    if precision == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    if precision not in DTYPES:
        raise InputError(f"there is no precision {precision!r}: choose auto, fp32 or bf16")
    return DTYPES[precision]


def has_native_bf16(device: torch.device) -> bool:
    """Tell whether a device multiplies bf16 numbers without converting them to fp32 first."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or has_matrix_tiles()
    return False


def has_native_fp16(device: torch.device) -> bool:
    """Tell whether a device multiplies fp16 numbers much faster than fp32: GPUs from Volta (V100, T4) on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def is_emulated(dtype: torch.dtype, *, device: torch.device) -> bool:
    """Tell whether a processor or an Nvidia GPU only emulates a number format, which takes longer."""
    native = {torch.bfloat16: has_native_bf16, torch.float16: has_native_fp16}.get(dtype)
    return native is not None and device.type in ("cpu", "cuda") and not native(device)


def has_matrix_tiles() -> bool:
    """Tell whether the processor multiplies small matrices in one instruction (AMX)."""
    return torch.cpu._is_amx_tile_supported()
