"""A training that is stopped by force, again and again, ends like one that was left alone.

CONDETR_KILLS sets the number of SIGKILLs.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.trust.conftest import Start, finish, last_saved, wait_for

KILLS = int(os.environ.get("CONDETR_KILLS", "1"))
SETTINGS = (
    *(f"epochs={14 + 2 * KILLS}", "data.batch_size=2", "detector.dropout=0.1", "detector.num_queries=40"),
    *(
        "optimizer.kind=muon",
        "schedule.kind=linear",
        "data.transform.dense.mosaic=0.5",
        "data.transform.dense.mixup=0.3",
    ),
    *(f"data.transform.dense.{name}=0.7" for name in ("copy_blend", "iou_crop", "zoom_out")),
)
"""Epochs of four steps; every life makes at least one."""
EXACT = ("metrics.csv", "best/model.safetensors", "predictions.json", "labels.json", "config.yaml")


@pytest.fixture(scope="module")
def moments() -> random.Random:
    return random.Random(7)


def stop_in_flight(process: "subprocess.Popen[str]", run: Path, number: signal.Signals, *, after: float) -> str:
    """Let a process make a checkpoint, wait, send its whole group a signal, and return what it said."""
    before = last_saved(run)
    wait_for(lambda: last_saved(run) != before, process)
    time.sleep(after)
    os.killpg(process.pid, number)
    return process.communicate()[0]


def test_a_run_stopped_at_random_moments_ends_bit_for_bit_like_one_that_was_not(
    start: Start, moments: random.Random, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = start(whole, *SETTINGS)
    wait_for(lambda: last_saved(whole) > 0, process)
    began = time.monotonic()
    finish(process)
    longest = (time.monotonic() - began) / (KILLS + 2)

    codes = []
    for number in (signal.SIGTERM, signal.SIGINT, *KILLS * [signal.SIGKILL]):
        workers = 0 if number == signal.SIGKILL else 1  # an orphan takes 5 s to notice
        process = start(cut, *SETTINGS, f"data.workers={workers}")
        said = stop_in_flight(process, cut, number, after=moments.uniform(0, longest))
        codes.append(process.returncode)
        assert number == signal.SIGKILL or "is saved; continue with --resume auto" in said
    finish(start(cut, *SETTINGS))

    assert codes == [143, 130, *KILLS * [-signal.SIGKILL]]
    assert [name for name in EXACT if (cut / name).read_bytes() != (whole / name).read_bytes()] == []
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (cut, whole)]
    for part in ("detector", "ema", "optimizer"):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=0)
    assert not [path for path in cut.rglob("*") if "draft" in path.name or ".old-" in path.name]


def test_a_run_that_goes_on_is_not_resumed_and_one_that_was_killed_is(start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start(run, "epochs=400", "data.workers=1")
    wait_for(lambda: last_saved(run) > 0, first)
    said = finish(start(run, "epochs=400"), code=2)
    assert f"another training, process {first.pid} on " in said
    assert f"is using {run}: let it end" in said
    assert first.poll() is None
    first.kill()  # but not the process that reads images
    first.wait()
    second = start(run, "epochs=400")
    wait_for(lambda: "resuming" in (second.stdout.readline() if second.stdout else ""), second)
    second.kill()
    for process in (first, second):
        process.communicate()
