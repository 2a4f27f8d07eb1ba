"""Images that are no local files: on the web, or in object storage by fsspec."""

from condetr.data.index import is_image
from condetr.errors import InputError
from condetr.inference.download import download
from condetr.storage.remote import is_url, opened, tried


def read_remote(source: str) -> bytes:
    """Return what is at an address; raises InputError if it does not come."""
    if is_url(source):
        return download(source)
    system, path = opened(source)
    return bytes(tried(lambda: system.cat_file(path), what=f"{source} cannot be read"))


def images_below(source: str) -> list[str]:
    """Return the image at an address in object storage, or those of its folder, or of a pattern, in order.

    An address that ends like an image is not looked up. Raises InputError if there is none.
    """
    if is_image(source) and "*" not in source:
        return [source]
    system, path = opened(source)
    list_paths = system.glob if "*" in path else system.find
    paths = tried(lambda: list_paths(path), what=f"{source} cannot be listed")
    found = sorted(str(system.unstrip_protocol(each)) for each in paths if is_image(each))
    if not found:
        raise InputError(f"{source} holds no image; give the address of an image, a folder or a quoted pattern")
    return found
