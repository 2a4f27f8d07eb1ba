"""`condetr ui` under requests that mean no good: it stays up, its memory is bounded, and it leaves nothing behind.

CONDETR_HOSTILE_REQUESTS=200 makes more of them.
"""

import io
import os
import random
import signal
import socket
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
from PIL import Image

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.inference.model_folder import save_model
from condetr.labels import Category, LabelMap
from tests.tiny import TINY

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
httpx: Any = pytest.importorskip("httpx")

REQUESTS, AT_ONCE = int(os.environ.get("CONDETR_HOSTILE_REQUESTS", "40")), 8
MIB = 2**20


class Served(NamedTuple):
    """A running server, its address, and the folder for its temporary files."""

    process: "subprocess.Popen[str]"
    url: str
    folder: Path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    config = ConditionalDetrConfig(**TINY)
    save_model(
        tmp_path / "model",
        config.build(num_classes=1),
        detector_config=config,
        transform=LightTransformConfig(),
        label_map=LabelMap((Category(3, "bolt"),)),
    )
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = [sys.executable, "-u", "-m", "condetr", "ui", str(tmp_path / "model"), "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("open http://"), line
        yield Served(process, line.split()[1], folder)
        process.kill()


def encoded(image: Image.Image, form: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG that says it has so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + checksum

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(MIB))) + chunk(b"IEND", b"")
    )


@cache
def bodies() -> list[bytes]:
    """Return what is uploaded, one good image among it."""
    pixels = np.random.default_rng(0).integers(256, size=(600, 800, 3), dtype=np.uint8)
    good = encoded(Image.fromarray(pixels), "PNG")
    return [
        b"",
        bytes(25 * MIB),
        good[: len(good) // 2],
        good,
        random.Random(0).randbytes(1000),
        b"GIF89a" + bytes(100),
        b"<svg onload='alert(1)'></svg>",
        bomb(100_000, 100_000),
        bomb(0, 10),
        encoded(Image.new("RGB", (7000, 7000)), "JPEG"),
    ]


def hostile(url: str, number: int) -> int:
    """Make one of many kinds of request; return the status of the answer, 0 if the connection was just closed."""
    draw = random.Random(number)
    names = ["../../etc/passwd", "a/../../b.png", "\x00.png", "x" * 5000, "<script>.png", "ü.png", ""]
    keys = ["../../etc/passwd", "..%2f..%2fsecret", "0" * 32, "%00", "a" * 10_000]
    with httpx.Client(base_url=url, timeout=120) as client:
        kind = number % 5
        if kind < 3:
            headers = {"x-condetr": "1"} if kind else {}
            name, body = draw.choice(names), draw.choice(bodies())
            return int(client.post("/images", params={"name": name}, content=body, headers=headers).status_code)
        if kind == 3:
            asked = {"model": draw.choice(["model", "/etc/passwd", ""])}
            asked["threshold"] = draw.choice(["nan", "-1", "1e400", "x"])
            return int(client.get(f"/images/{draw.choice(keys)}/explorer", params=asked).status_code)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(draw.choice([b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n", draw.randbytes(300) + b"\r\n\r\n"]))
        answer = connection.recv(100)
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def test_hostile_requests_at_once(served: Served) -> None:
    process = psutil.Process(served.process.pid)
    before, most = process.memory_info().rss, 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(hostile, served.url, number) for number in range(REQUESTS)]
        for each in waiting:
            each.result()
            most = max(most, process.memory_info().rss)
    statuses = Counter(each.result() for each in waiting)
    assert served.process.poll() is None
    assert not any(status >= 500 for status in statuses), statuses
    assert statuses[200] > 0  # good images among them are answered
    # Uploads that wait their turn, one image at work, and the last ones that are kept.
    assert most - before < 800 * MIB, f"{(most - before) / MIB:.0f} MiB more"
    assert [path for path in served.folder.rglob("*") if path.is_file()] == []
    with httpx.Client(base_url=served.url) as client:
        assert client.get("/").status_code == 200
    served.process.send_signal(signal.SIGINT)
    _, complaints = served.process.communicate(timeout=60)
    assert "Traceback" not in complaints, complaints
