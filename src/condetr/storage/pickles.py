"""Files that torch.save wrote, read without running anything in them and without unpacking more than they hold."""

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
"""What `load_pickle` raises for bytes that torch.save did not write."""

RECORD, LOCATOR, END = 56, 20, 22
"""Bytes of the three parts that close a zip file; the first two are not in all of them."""


def save_pickle(content: Any, path: Path) -> None:  # noqa: ANN401 - a pickle holds anything
    """Write a file with torch.save; raises OSError where the disk does not take it."""
    try:
        torch.save(content, path)
    except RuntimeError as error:  # what it makes of a full disk
        raise OSError(f"the disk did not take all of it ({first_line(error)})") from error


def load_pickle(path: Path) -> Any:  # noqa: ANN401 - a pickle holds anything
    """Return what torch.save put into a file: tensors, plain containers, and what torch's safe_globals allow.

    A zip file that is larger when unpacked is refused before that: torch.save compresses nothing.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":  # else torch reads it as its older format, which has no parts to unpack
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
            f"it is compressed, which torch.save never does ({size:,} bytes would become {unpacked:,}); get it anew "
            "from where it was saved"
        )


def _directory_offset(file: BinaryIO) -> int | None:
    """Return where the end of a zip file says that its table of contents begins; None if it says it in two ways.

    torch goes there. zipfile takes the table right before the end instead, which may be made to be another one.
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
    """Return what a checkpoint holds; raises InputError if it is damaged or wants to run anything."""
    try:
        with torch.serialization.safe_globals([Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that torch did not write, which are refused below
            content = load_pickle(path)
    except (FileNotFoundError, PermissionError) as error:
        raise InputError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    except UnpicklingError as error:
        raise InputError(f"{path} is refused, nothing in it was run: {_reason(error)}") from None
    except Exception as error:  # what a damaged pickle raises is anyone's guess
        raise InputError(f"{path} is damaged or no checkpoint ({_reason(error)}); download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, which is no checkpoint")
    return content


def _reason(error: Exception) -> str:
    """Return the telling line of torch's long explanations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = (line for line in lines if "Unsupported" in line or "GLOBAL" in line)
    first = lines[0] if lines and " " in lines[0] else type(error).__name__
    return next(telling, first)[:200]
