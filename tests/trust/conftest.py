"""The real command on a tiny training, in processes that can be hurt."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from condetr.scenes.shapes import write_scenes
from tests.cli.conftest import condetr  # noqa: F401 - a fixture

SMALL = (
    "detector.dim=8",
    "detector.num_heads=2",
    "detector.num_queries=4",
    "detector.feedforward_dim=8",
    "detector.encoder_layers=1",
    "detector.decoder_layers=2",
    "data.batch_size=4",
    "loggers=[]",
    "precision=32-true",
    "checkpoint_minutes=0",
)
SMALL_RESNET = ("kind=small_resnet", "widths=[4,4]", "blocks=[1]")
CONDETR = [sys.executable, "-c", "from condetr.cli.main import main; main()"]
Launcher = tuple[list[str], list[str]]
"""What comes before the command and after it."""
TORCHRUN: Launcher = (
    [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"],
    [],
)
DEVICES: Launcher = ([], ["--devices", "2"])
PATIENCE = 120
"""Seconds after which a process that should have ended is taken for hanging."""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of eight training images and five validation images, which two processes share unevenly."""
    folder = tmp_path_factory.mktemp("trust") / "scenes"
    write_scenes(folder, num_images=8, val_images=5, seed=4, size=32)
    return folder


@pytest.fixture
def start(scenes: Path) -> Start:
    """Start `condetr train` on the scenes, in two processes if so wished; output is read by `finish`."""

    def start(
        out: Path,
        *settings: str,
        data: Path | str = scenes,
        processes: int = 1,
        by: Launcher = TORCHRUN,
        **options: tuple[str, ...],
    ) -> "subprocess.Popen[str]":
        before, after = by if processes == 2 else ([], [])
        command = [*before, *CONDETR, *arguments(data, out, *settings, **options), *after]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )

    return start


def arguments(data: Path | str, out: Path, *settings: str, backbone: tuple[str, ...] = SMALL_RESNET) -> list[str]:
    """Return the arguments of a tiny training that continues where it stopped, and saves after every step."""
    chosen = (*SMALL, *(f"detector.backbone.{setting}" for setting in backbone), *settings)
    options = [part for setting in chosen for part in ("--set", setting)]
    return ["train", "conditional_detr_tiny", "--data", str(data), "--out", str(out), "--resume", "auto", *options]


def finish(process: "subprocess.Popen[str]", *, code: int = 0) -> str:
    """Wait for a process to end with `code`, and return what it said."""
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, said
    return said


def wait_for(event: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something has happened; a process that ends before fails the test."""
    patience = time.monotonic() + PATIENCE
    while not event():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < patience
        time.sleep(0.002)


def last_saved(run: Path) -> int:
    """Return when the last checkpoint was written, 0 before there is one."""
    path = run / "checkpoints" / "last.ckpt"
    return path.stat().st_mtime_ns if path.is_file() else 0
