"""Which number format a machine computes in fastest."""

from typing import Literal

import torch

from condetr.errors import InputError

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
