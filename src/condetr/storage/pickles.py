"""Read files of torch.save without running code in them, and without decompression bombs."""

import struct
import warnings
from argparse import Namespace
from collections.abc import Mapping
from os import SEEK_END
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch

from condetr.errors import InputError, first_line

TORCH_LOAD_ERRORS = (
    OSError,
    RuntimeError,
    UnpicklingError,
    BadZipFile,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    struct.error,
)
"""The errors of `load_pickle` for bytes that torch.save did not write."""

RECORD, LOCATOR, END = 56, 20, 22
"""Bytes of the three parts at the end of a zip file; the first two are optional."""


def save_pickle(content: Any, path: Path) -> None:  # noqa: ANN401 - a pickle holds anything
    """Write a file with torch.save; raises OSError if the disk is full or fails."""
    try:
        torch.save(content, path)
    except RuntimeError as error:  # its error for a full disk
        raise OSError(f"the file could not be written completely ({first_line(error)})") from error


def load_pickle(path: Path) -> Any:  # noqa: ANN401 - a pickle holds anything
    """Return what torch.save put into a file: tensors, plain containers, and what torch's safe_globals allow.

    A zip file that would be larger when unpacked is refused beforehand, because torch.save compresses nothing.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":  # otherwise torch reads it as its older format, which is not compressed
            _require_stored(file)
    return torch.load(path, map_location="cpu", weights_only=True)


def _require_stored(file: BinaryIO) -> None:
    with ZipFile(file) as archive:
        entries, start = archive.infolist(), archive.start_dir
    if start != _directory_offset(file):
        raise BadZipFile("its table of contents is not where the end of the file says")
    size, unpacked = file.seek(0, SEEK_END), sum(entry.file_size for entry in entries)
    if unpacked > size or any(entry.compress_type != ZIP_STORED for entry in entries):
        raise UnpicklingError(
            f"it is compressed, which torch.save never does ({size:,} bytes would become {unpacked:,}); download "
            "it again, or save it again"
        )


def _directory_offset(file: BinaryIO) -> int | None:
    """Return the offset of the table of contents given at the end of a zip file; None if two different ones are given.

    torch reads the table at that offset. zipfile instead reads the table right before the end, and a manipulated file
    can have two tables.
    """
    size = file.seek(0, SEEK_END)
    file.seek(max(0, size - RECORD - LOCATOR - END))
    closing = file.read().rjust(RECORD + LOCATOR + END, b"\0")
    record, locator, end = closing[:RECORD], closing[RECORD:-END], closing[-END:]
    if not locator.startswith(b"PK\6\7"):
        return _number(end[16:20]) if end.startswith(b"PK\5\6") else None
    is_before_it = _number(locator[8:16]) == size - len(closing) and record.startswith(b"PK\6\6")
    return _number(record[48:56]) if is_before_it else None


def _number(field: bytes) -> int:
    return int.from_bytes(field, "little")


def read_pickle(path: Path) -> Mapping[Any, Any]:
    """Return the content of a checkpoint; raises InputError if it is damaged or contains code."""
    try:
        with torch.serialization.safe_globals([Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about pickles that torch did not write, which are refused below
            content = load_pickle(path)
    except (FileNotFoundError, PermissionError) as error:
        raise InputError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    except UnpicklingError as error:
        raise InputError(f"{path} is refused, no code in it was run: {_reason(error)}") from None
    except Exception as error:  # a damaged pickle may raise any exception
        raise InputError(f"{path} is damaged or not a checkpoint ({_reason(error)}); download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, which is not a checkpoint")
    return content


def _reason(error: Exception) -> str:
    """Return the informative line of torch's long error messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = (line for line in lines if "Unsupported" in line or "GLOBAL" in line)
    first = lines[0] if lines and " " in lines[0] else type(error).__name__
    return next(telling, first)[:200]
