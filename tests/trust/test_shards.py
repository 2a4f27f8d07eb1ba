"""A prediction in shards that is killed, or whose disk is full, ends like one that was left alone.

CONDETR_KILLS sets the number of SIGKILLs.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import Command, weights  # noqa: F401 - a fixture
from tests.trust.conftest import CONDETR, PATIENCE, finish, wait_for

KILLS = int(os.environ.get("CONDETR_KILLS", "1"))
IMAGES, SHARD = 120 + 60 * KILLS, 5

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from condetr.cli.main import main
main()
"""
"""The command on a disk that takes no larger file."""

Arguments = Callable[..., list[str]]


@pytest.fixture
def images(scenes: Path, tmp_path: Path) -> Path:
    """Return a folder of many images, of which the first shard's are none."""
    folder = tmp_path / "images"
    folder.mkdir()
    known = sorted((scenes / "images").iterdir())
    for number in range(IMAGES):
        if number < SHARD:
            (folder / f"{number:05}.jpg").write_bytes(b"no image")
        else:
            shutil.copyfile(known[number % len(known)], folder / f"{number:05}.jpg")
    return folder


@pytest.fixture
def arguments(weights: Path, images: Path) -> Arguments:  # noqa: F811 - the fixture
    """Return the arguments of a prediction that continues where it stopped."""

    def arguments(out: Path, *options: object) -> list[str]:
        settings = ("--format", "jsonl", "--min-score", 0, "--shard-size", SHARD, "--resume", *options)
        return [str(each) for each in ("predict", weights, images, "--out", out, *settings)]

    return arguments


def start(arguments: list[str], *, command: list[str] = CONDETR, threads: int = 1) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )


def content(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for folder in ("shards", "done") for path in (out / folder).iterdir()}


def num_done(out: Path) -> int:
    return sum(path.suffix == ".json" for path in (out / "done").glob("*"))


def test_a_prediction_killed_at_random_moments_ends_bit_for_bit_like_one_that_was_not(
    condetr: Command, arguments: Arguments, tmp_path: Path
) -> None:
    moments, whole, cut = random.Random(7), tmp_path / "whole", tmp_path / "cut"
    condetr(*arguments(whole, "--workers", 1))

    for _ in range(KILLS):
        before = num_done(cut)
        process = start(arguments(cut, "--workers", 2))
        wait_for(lambda: num_done(cut) > before, process)  # noqa: B023 - used in this life
        time.sleep(moments.uniform(0, 0.05))
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # its processes have to notice by themselves
        process.communicate()
        assert psutil.wait_procs(workers, timeout=PATIENCE)[1] == []
        assert num_done(cut) < IMAGES // SHARD
    said = condetr(*arguments(cut, "--workers", 1))

    assert "continuing: " in said.out
    assert content(cut) == content(whole)
    assert (cut / "errors.jsonl").read_bytes() == (whole / "errors.jsonl").read_bytes()


def test_ctrl_c_says_how_to_continue_and_ends_the_workers(arguments: Arguments, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(arguments(out, "--workers", 2))
    wait_for(lambda: num_done(out) > 0, process)
    workers = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(signal.SIGINT)

    said = finish(process, code=130)
    assert "stopped; continue with --resume" in said
    assert "Traceback" not in said
    assert psutil.wait_procs(workers, timeout=PATIENCE)[1] == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are a Unix thing")
def test_a_full_disk_is_a_sentence_and_the_prediction_goes_on_later(
    condetr: Command, arguments: Arguments, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    condetr(*arguments(whole, "--workers", 1))
    largest = 1 + max((whole / "done").glob("000000.json"), key=_size).stat().st_size
    assert largest < _size(whole / "shards" / "000001.jsonl")

    process = start(
        [str(max(largest, _size(whole / "manifest.json"))), *arguments(out, "--workers", 1)],
        command=[sys.executable, "-c", LIMITED],
    )
    said = finish(process, code=1)
    kept = set(content(out))
    condetr(*arguments(out, "--workers", 1))

    assert said.splitlines()[-1].startswith(f"condetr: cannot write {out / 'shards' / '000001.jsonl'}: File too large")
    assert said.rstrip().endswith(f"1 of {IMAGES // SHARD} shards are complete: continue with --resume")
    assert kept == {"000000.json", "000000.jsonl"}
    assert content(out) == content(whole)


def _size(path: Path) -> int:
    return path.stat().st_size


def test_a_lost_worker_of_a_cluster_loses_nothing(arguments: Arguments, tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    whole, out = tmp_path / "whole", tmp_path / "out"
    finish(start(arguments(whole, "--workers", 2)))
    before = {process.pid for process in _actors()}
    process = start(arguments(out, "--engine", "ray", "--workers", 2), threads=2)
    wait_for(lambda: len({each.pid for each in _actors()} - before) == 2, process)
    victim = next(each for each in _actors() if each.pid not in before)
    wait_for(lambda: num_done(out) > 0, process)

    victim.kill()

    assert num_done(out) < IMAGES // SHARD
    finish(process)
    assert content(out) == content(whole)


def _actors() -> list[psutil.Process]:
    """Return the processes of Ray's actors that map, whichever command they belong to."""
    running = psutil.process_iter(["cmdline"])
    return [each for each in running if "ray::MapWorker" in " ".join(each.info["cmdline"] or [])]
