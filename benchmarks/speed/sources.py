"""Images from a folder, from tar files and from a web server on the same machine, read and decoded on one core."""

import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.speed.loading import write_images
from benchmarks.speed.report import Table
from benchmarks.speed.timing import alternate
from condetr.data.dataset import Split
from condetr.data.images import read_image
from condetr.data.sources import open_split
from condetr.data.stored.mirror import mirror

IMAGES, ROUNDS, SHARD = 200, 9, 50


def measure(*, quick: bool) -> Table:
    """Read the same images in turn, one after another, as one of a training's readers does."""
    images = 10 if quick else IMAGES
    with TemporaryDirectory() as place:
        folder, packed = Path(place) / "folder", Path(place) / "packed"
        _write(folder, packed, images=images)
        with _served(folder) as address:
            splits = {"a folder": open_split(folder), "tar files": open_split(packed)}
            os.environ["CONDETR_CACHE"] = str(Path(place) / "nothing is kept")
            os.environ["CONDETR_CACHE_GIB"] = "0"
            splits["a web server"] = open_split(Path(address))
            seconds = alternate(
                {name: partial(_read, split) for name, split in splits.items()}, rounds=1 if quick else ROUNDS
            )
            mirror.cache_clear()
            os.environ["CONDETR_CACHE_GIB"] = "1"
            kept = open_split(Path(address))
            again = alternate(
                {"a folder": partial(_read, splits["a folder"]), "a web server, once kept": partial(_read, kept)},
                rounds=1 if quick else ROUNDS,
            )
    times = {name: value / seconds["a folder"] for name, value in seconds.items()}
    times["a web server, once kept"] = again["a web server, once kept"] / again["a folder"]
    return Table(
        name="sources",
        title=f"Reading and decoding {images} JPEG files of 480 x 640, one core",
        columns=("from", "time as a multiple of the folder's"),
        rows=list(times.items()),
        headline={name: value for name, value in times.items() if name != "a folder"},
        notes=[f"the files are in the memory of the machine; tar files hold {SHARD} images; the server has a core"],
    )


def _read(split: Split) -> int:
    return sum(read_image(record.path).shape[1] for record in split.records)


def _write(folder: Path, packed: Path, *, images: int) -> None:
    (folder / "images").mkdir(parents=True)
    (packed / "images").mkdir(parents=True)
    split = write_images(folder / "images", count=images)
    files = [record.path for record in split.records]
    content = {
        "images": [{"id": number, "file_name": file.name} for number, file in enumerate(files)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [9, 9, 90, 90]}],
        "categories": [{"id": 1, "name": "thing"}],
    }
    for place in (folder, packed):
        (place / "train.json").write_text(json.dumps(content))
    for first in range(0, images, SHARD):
        with tarfile.open(packed / "images" / f"{first:06}.tar", "w") as tar:
            for file in files[first : first + SHARD]:
                tar.add(file, arcname=file.name)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a folder from another process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the web server does not start")
