import os
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from condetr.data.images import read_image
from condetr.data.sources import open_data
from condetr.data.stored import mirror as mirrors
from condetr.data.stored.mirror import address_of, mirror
from condetr.data.stored.places import content_of
from condetr.errors import InputError
from condetr.scenes.shapes import write_scenes
from condetr.storage import remote
from condetr.storage.remote import StorageError
from tests.unit.data.stored.test_tars import pack_images, summary


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "scenes", num_images=7, val_images=2, seed=1, size=32)
    return tmp_path / "scenes"


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a cache of its own, and no patience."""
    monkeypatch.setenv("CONDETR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(mirrors, "_STILL_FRESH", 0)
    mirror.cache_clear()
    yield
    mirror.cache_clear()


@pytest.fixture
def bucket(scenes: Path) -> Iterator[str]:
    """A storage in memory with the scenes."""
    system = fsspec.filesystem("memory")
    system.put(f"{scenes}/", "/bucket/scenes/", recursive=True)
    yield "memory://bucket/scenes"
    system.rm("/bucket", recursive=True)


@pytest.fixture
def served(scenes: Path) -> Iterator[str]:
    """A web server with the scenes, which like most does not read in parts."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(scenes)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("s3://b/a", "s3://b/a"),
        ("https://h/a/", "https://h/a"),
        ("file:///a/b", "file:///a/b"),
        ("memory://a", "memory://a"),
        ("a/b", None),
        ("C:/a", None),
        ("/s3:/a", None),
    ],
)
def test_a_path_made_of_an_address_gives_it_back(path: str, address: str | None) -> None:
    assert address_of(Path(path)) == address


def test_data_in_a_storage_is_that_of_the_folder(bucket: str, scenes: Path) -> None:
    assert summary(open_data(Path(bucket)), mirror(bucket).folder) == summary(open_data(scenes), scenes)


def test_data_on_a_web_server_is_that_of_the_folder(served: str, scenes: Path) -> None:
    assert summary(open_data(Path(served)), mirror(served[:-1]).folder) == summary(open_data(scenes), scenes)


def test_data_in_tar_files_in_a_storage_is_that_of_the_folder(scenes: Path, tmp_path: Path) -> None:
    pack_images(scenes, tmp_path / "packed")
    address = f"file://{tmp_path}/packed"

    assert summary(open_data(Path(address)), mirror(address).folder) == summary(open_data(scenes), scenes)


def test_what_is_known_is_not_asked_for_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_data(Path(bucket))
    for record in (*first.train.records, *first.val.records):
        read_image(record.path)
    mirror.cache_clear()
    monkeypatch.setattr(MemoryFileSystem, "cat_file", None)

    again = open_data(Path(bucket))

    assert summary(again, mirror(bucket).folder) == summary(first, mirror(bucket).folder)


def test_what_changed_in_the_storage_is_read_again(bucket: str, scenes: Path) -> None:
    images = sorted(scenes.rglob("*.jpg"))
    before = open_data(Path(bucket))
    read = [read_image(record.path) for record in before.train.records]
    assert len({image.sum().item() for image in read}) > 1
    for image in images:
        shutil.copy(images[0], image) if image != images[0] else None
    fsspec.filesystem("memory").put(f"{scenes}/", "/bucket/scenes/", recursive=True)
    mirror.cache_clear()

    after = open_data(Path(bucket))

    assert len({read_image(record.path).sum().item() for record in after.train.records}) == 1


@pytest.mark.parametrize(("gib", "kept"), [("0", 0), ("", 9), ("5e-6", None)])
def test_images_are_kept_up_to_a_size(
    gib: str, kept: int | None, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDETR_CACHE_GIB", gib)
    data = open_data(Path(bucket))
    for record in (*data.train.records, *data.val.records):
        read_image(record.path)

    files = list((tmp_path / "cache" / "data").glob("*/images/*/*"))

    assert len(files) == kept if kept is not None else 0 < len(files) < 9


def test_a_damaged_copy_of_an_image_is_not_used(bucket: str, tmp_path: Path) -> None:
    path = open_data(Path(bucket)).train.records[0].path
    right = content_of(path)
    (copy,) = (tmp_path / "cache" / "data").glob("*/images/*/*")
    copy.write_bytes(bytes(len(copy.read_bytes())))

    assert content_of(path) == right is not None


def test_a_lost_connection_is_a_sentence_after_some_tries(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = open_data(Path(bucket)).train.records[0].path
    tries = []

    def lost(*_: object, **__: object) -> bytes:
        tries.append(1)
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", lost)

    with pytest.raises(StorageError, match=r"\.jpg cannot be read, tried 3 times: Connection reset by peer; check the"):
        read_image(path)
    assert len(tries) == 3


def test_a_passing_failure_is_not_noticed(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = open_data(Path(bucket)).train.records[0].path
    failures = iter([TimeoutError(), ConnectionError()])
    read = MemoryFileSystem.cat_file

    def flaky(*given: object, **named: object) -> object:
        for failure in failures:
            raise failure
        return read(*given, **named)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", flaky)

    assert read_image(path).shape == (3, 32, 32)


def test_a_connection_that_is_lost_while_headers_are_read_ends_the_reading(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = MemoryFileSystem.cat_file

    def lost(system: object, path: str, **named: object) -> object:
        if path.endswith(".jpg"):
            raise TimeoutError
        return read(system, path, **named)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", lost)

    with pytest.raises(StorageError, match="tried 3 times: TimeoutError"):
        open_data(Path(bucket))


def test_an_image_that_is_gone_is_a_sentence(bucket: str) -> None:
    path = open_data(Path(bucket)).train.records[0].path
    fsspec.filesystem("memory").rm("/bucket/scenes", recursive=True)
    fsspec.filesystem("memory").pipe("/bucket/x", b"")

    with pytest.raises(InputError, match=r"\.jpg cannot be read: nothing is there; check the address"):
        read_image(path)


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("memory://nothing/here", "memory://nothing/here (cannot be listed|holds no files)"),
        ("nosuch://a/b", "nosuch://a/b cannot be opened: Protocol not known"),
        ("memory://bucket/scenes/images", "holds 9 images but no annotations: put them beside the images"),
        ("memory://bucket/scenes/annotations", "holds no images, of 2 files there: give the address of a folder"),
    ],
)
def test_an_address_without_data_is_refused(address: str, complaint: str, bucket: str) -> None:
    with pytest.raises(InputError, match=complaint):
        open_data(Path(address))


def test_a_size_that_is_none_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDETR_CACHE_GIB", "much")

    with pytest.raises(InputError, match="CONDETR_CACHE_GIB=much is no size"):
        open_data(Path(bucket))


def test_nothing_is_written_into_the_data(scenes: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in scenes.rglob("*")}

    open_data(Path(f"file://{scenes}"))

    assert {path: path.stat().st_mtime_ns for path in scenes.rglob("*")} == before
    assert os.environ["CONDETR_CACHE"] not in map(str, before)
