from collections.abc import Iterator

import fsspec
import numpy as np
import pytest
from PIL import Image

from condetr.errors import InputError
from condetr.inference.pixels import read_pixels
from condetr.inference.remote import images_below, read_remote
from condetr.inference.sources import find_sources, stem_of
from condetr.storage.remote import is_remote


@pytest.fixture
def bucket() -> Iterator[str]:
    """A storage in memory with two images and a text."""
    system = fsspec.filesystem("memory")
    for name in ("bucket/b.png", "bucket/deep/a.png"):
        with system.open(f"/{name}", "wb") as file:
            Image.fromarray(np.full((4, 6, 3), 7, np.uint8)).save(file, format="PNG")
    system.pipe("/bucket/notes.txt", b"text")
    yield "memory://bucket"
    system.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [("s3://b/a.jpg", True), ("https://h/a.jpg", True), ("a.jpg", False), ("C:/a.jpg", False), ("a//b.jpg", False)],
)
def test_an_address_is_told_from_a_file(source: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert is_remote(source) == expected


def test_images_of_a_folder_in_a_storage_are_sources_in_order(bucket: str) -> None:
    assert list(find_sources([bucket]).images) == ["memory:///bucket/b.png", "memory:///bucket/deep/a.png"]
    assert list(find_sources([f"{bucket}/*.png"]).images) == ["memory:///bucket/b.png"]


def test_an_image_in_a_storage_is_read(bucket: str) -> None:
    pixels = read_pixels(f"{bucket}/b.png")

    assert tuple(pixels.shape) == (3, 4, 6)
    assert int(pixels.max()) == 7
    assert stem_of(f"{bucket}/b.png") == "b"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("memory://bucket/none.png", "memory://bucket/none.png cannot be read: "),
        ("nosuch://bucket/a.png", "nosuch://bucket/a.png cannot be opened: Protocol not known"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(bucket: str, source: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_remote(source)


def test_a_storage_without_images_is_refused(bucket: str) -> None:
    with pytest.raises(InputError, match=r"memory://bucket/\*\.jpg holds no image"):
        images_below(f"{bucket}/*.jpg")
