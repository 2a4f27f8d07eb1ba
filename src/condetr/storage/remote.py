"""Files at addresses, such as s3://bucket/a.jpg, by fsspec."""

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from condetr.errors import InputError, first_line

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

T = TypeVar("T")


class StorageError(InputError):
    """A storage does not answer, so that asking it for more is of no use."""


WAITS = (1.0, 4.0, 15.0)
"""Seconds before each further try."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://.", re.IGNORECASE)
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors that another try does not mend."""


def is_remote(source: str) -> bool:
    """Tell whether a source is an address, such as https://host/a.jpg, s3://bucket/a.jpg or gs://bucket/folder."""
    return bool(_ADDRESS.match(source))


def is_url(source: str) -> bool:
    """Tell whether a source is an address on the web."""
    return source.lower().startswith(("http://", "https://"))


def opened(source: str) -> "tuple[AbstractFileSystem, str]":
    """Return the storage of an address, and the path there; raises InputError if there is none.

    Storages are kept by fsspec, one for each process and thread: ask again rather than carry one into another.
    """
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(source)
    except ImportError as error:
        raise InputError(f"{source} needs another package: {first_line(error)}") from None
    except Exception as error:  # an unknown protocol, or credentials that are missing
        raise InputError(f"{source} cannot be opened: {reason_of(error)}; check the address") from None
    return system, str(path)


def read_part(address: str, *, offset: int, size: int) -> bytes:
    """Return `size` bytes of the file at an address, trying several times; raises InputError if they do not come."""
    system, path = opened(address)
    content: bytes = tried(
        lambda: system.cat_file(path, start=offset, end=offset + size), what=f"{address} cannot be read"
    )
    if len(content) > size:  # some web servers know no parts
        content = content[offset : offset + size]
    if len(content) != size:
        raise InputError(
            f"{address} has changed or came incomplete ({len(content):,} of {size:,} bytes): run the command again"
        )
    return content


def tried(attempt: Callable[[], T], *, what: str) -> T:
    """Return what an attempt returns, tried again after each of `WAITS` if the connection may be to blame.

    Raises StorageError, which begins with `what`, in the end; InputError at once if nothing is there or access is
    denied.
    """
    for wait in (*WAITS, None):
        try:
            return attempt()
        except _LASTING as error:
            raise InputError(f"{what}: {reason_of(error)}; check the address and the access to it") from None
        except Exception as error:  # each storage has errors of its own
            if wait is None:
                raise StorageError(
                    f"{what}, tried {len(WAITS) + 1} times: {reason_of(error)}; check the connection, then go on "
                    "(a training with --resume auto)"
                ) from None
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def reason_of(error: Exception) -> str:
    """Return a storage's error in a line."""
    if isinstance(error, FileNotFoundError):
        return "nothing is there"
    return getattr(error, "strerror", None) or first_line(error)
