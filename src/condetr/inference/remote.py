"""Images that are no local files: on the web, or in object storage by fsspec."""

import re
from typing import TYPE_CHECKING

from condetr.data.index import is_image
from condetr.errors import InputError, first_line
from condetr.inference.download import download, is_url

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://.", re.IGNORECASE)


def is_remote(source: str) -> bool:
    """Tell whether a source is an address, such as https://host/a.jpg, s3://bucket/a.jpg or gs://bucket/folder."""
    return bool(_ADDRESS.match(source))


def read_remote(source: str) -> bytes:
    """Return what is at an address; raises InputError if it does not come."""
    if is_url(source):
        return download(source)
    system, path = _opened(source)
    try:
        content = system.cat_file(path)
    except Exception as error:  # each storage has errors of its own
        raise InputError(f"{source} cannot be read: {_reason(error)}; check the address and the access to it") from None
    return bytes(content)


def images_below(source: str) -> list[str]:
    """Return the image at an address in object storage, or those of its folder, or of a pattern, in order.

    An address that ends like an image is not looked up. Raises InputError if there is none.
    """
    if is_image(source) and "*" not in source:
        return [source]
    system, path = _opened(source)
    try:
        paths = system.glob(path) if "*" in path else system.find(path)
    except Exception as error:  # as above
        raise InputError(
            f"{source} cannot be listed: {_reason(error)}; check the address and the access to it"
        ) from None
    found = sorted(str(system.unstrip_protocol(each)) for each in paths if is_image(each))
    if not found:
        raise InputError(f"{source} holds no image; give the address of an image, a folder or a quoted pattern")
    return found


def _opened(source: str) -> "tuple[AbstractFileSystem, str]":
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(source)
    except ImportError as error:
        raise InputError(f"{source} needs another package: {first_line(error)}") from None
    except Exception as error:  # an unknown protocol, or credentials that are missing
        raise InputError(f"{source} cannot be opened: {_reason(error)}; check the address") from None
    return system, str(path)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)
