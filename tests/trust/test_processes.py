"""Two processes on the CPU do what one does, and end together."""

import csv
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Command
from tests.trust.conftest import DEVICES, TORCHRUN, Launcher, Start, arguments, finish, last_saved, wait_for

FROZEN_NORM = ("kind=timm", "name=mobilenetv3_small_050", "norm=frozen")
"""The statistics of a trainable norm would differ from process to process, and so would dropout."""


def history(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture
def alone(condetr: Command, scenes: Path, tmp_path: Path) -> Path:
    """The run of a single process."""
    ended = condetr(*arguments(scenes, tmp_path / "alone", "epochs=3", backbone=FROZEN_NORM))
    assert ended.code == 0, ended.err
    return tmp_path / "alone"


@pytest.mark.parametrize("by", [TORCHRUN, DEVICES], ids=["torchrun", "devices"])
def test_two_processes_have_the_losses_and_detections_of_one(
    start: Start, alone: Path, tmp_path: Path, by: Launcher
) -> None:
    said = finish(start(tmp_path / "pair", "epochs=3", backbone=FROZEN_NORM, processes=2, by=by))
    assert "(2 processes x 2 images)" in said
    assert history(tmp_path / "pair") == [pytest.approx(row, rel=1e-4) for row in history(alone)]
    found = [json.loads((run / "predictions.json").read_text()) for run in (alone, tmp_path / "pair")]
    assert [Counter(row["image_id"] for row in rows) for rows in found][1:] == [
        Counter(row["image_id"] for row in found[0])
    ]


def test_two_processes_stop_together_and_one_goes_on(
    start: Start, condetr: Command, scenes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pair = start(run, "epochs=20", processes=2, by=DEVICES)
    wait_for(lambda: last_saved(run) > 0, pair)
    pair.send_signal(signal.SIGTERM)
    said, _ = pair.communicate(timeout=60)
    assert "is saved; continue with --resume auto" in said
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["progress"]["step"]
    assert 0 < step < 40
    ended = condetr(*arguments(scenes, run, "epochs=20"))
    assert ended.code == 0, ended.err
    assert f"resuming after step {step}" in ended.out
    assert [row["step"] for row in history(run)] == list(range(2, 42, 2))


def test_a_process_that_hangs_ends_the_others_with_a_word(start: Start, tmp_path: Path) -> None:
    pair = start(tmp_path / "run", "epochs=400", "process_timeout_minutes=0.3", processes=2)
    wait_for(lambda: last_saved(tmp_path / "run") > 0, pair)
    first, second = map(int, Path(f"/proc/{pair.pid}/task/{pair.pid}/children").read_text().split())
    os.kill(second, signal.SIGSTOP)
    wait_for(lambda: not Path(f"/proc/{first}").exists(), pair)
    os.kill(second, signal.SIGKILL)  # torchrun asks it to end, which it cannot hear, and would wait half a minute
    said, _ = pair.communicate(timeout=60)
    assert "another of its processes hangs (it did not answer within process_timeout_minutes), so the training" in said
    assert "is complete, continue with --resume auto" in said


def test_a_dead_process_ends_the_others_with_a_word(start: Start, tmp_path: Path) -> None:
    pair = start(tmp_path / "run", "epochs=400", processes=2)
    wait_for(lambda: last_saved(tmp_path / "run") > 0, pair)
    children = Path(f"/proc/{pair.pid}/task/{pair.pid}/children").read_text().split()
    began = time.monotonic()
    os.kill(int(children[-1]), signal.SIGKILL)
    said, _ = pair.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert "another of its processes has ended, so the training cannot continue" in said
    assert "is complete, continue with --resume auto" in said


def test_processes_that_the_command_started_end_with_one_sentence(start: Start, tmp_path: Path) -> None:
    pair = start(tmp_path / "run", "epochs=400", processes=2, by=DEVICES)
    wait_for(lambda: last_saved(tmp_path / "run") > 0, pair)
    children = Path(f"/proc/{pair.pid}/task/{pair.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    said = finish(pair, code=1)
    (sentence,) = (line for line in said.splitlines() if line.startswith("condetr: "))
    assert sentence.startswith(
        "condetr: process 2 of 2 was ended by SIGKILL, maybe for lack of memory, so the training"
    )
    assert sentence.endswith("is complete, continue with --resume auto")
    assert "Traceback" not in said


def test_what_all_processes_refuse_is_said_once(start: Start, tmp_path: Path) -> None:
    said = finish(start(tmp_path / "run", "optimizer.rate=1", processes=2, by=DEVICES), code=2)
    assert said.count("condetr: unknown setting optimizer.rate") == 1
    assert "Traceback" not in said


def test_a_process_that_torchrun_started_starts_no_others(
    condetr: Command, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    ended = condetr(*arguments(scenes, tmp_path / "run"), "--devices", "2")
    assert (ended.code, ended.out) == (2, "")
    assert "--devices 2 does not agree with torchrun, which started 3: leave it out" in ended.err


def test_two_processes_that_were_stopped_end_bit_for_bit_like_two_that_were_not(start: Start, tmp_path: Path) -> None:
    settings = ("epochs=10", "data.batch_size=2", "data.workers=0", "ema.decay=0.9")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    stopped = start(cut, *settings, processes=2, by=DEVICES)
    wait_for(lambda: last_saved(cut) > 0, stopped)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate(timeout=60)
    step = torch.load(cut / "checkpoints" / "last.ckpt", weights_only=True)["progress"]["step"]
    for run in (cut, whole):
        finish(start(run, *settings, processes=2, by=DEVICES))

    assert 0 < step < 40
    for name in ("metrics.csv", "best/model.safetensors", "predictions.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), f"{name}, after step {step}"
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (cut, whole)]
    for part in ("detector", "ema"):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=0)
