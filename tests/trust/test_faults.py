"""What goes wrong on the way, with the real command."""

import json
import os
import resource
import signal
from pathlib import Path

import torch

from condetr.engine.nonfinite import MAX_IN_A_ROW
from tests.cli.conftest import Command
from tests.trust.conftest import Start, arguments, finish, last_saved, wait_for


def test_a_rate_that_destroys_the_weights_ends_the_run_at_the_last_good_state(
    condetr: Command, scenes: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ended = condetr(*arguments(scenes, run, "optimizer.lr=1e37", "schedule.warmup_steps=0", "epochs=100"))
    assert ended.code == 1
    assert f"was not finite in {MAX_IN_A_ROW} steps" in ended.err
    assert "the last good state is step 1 in" in ended.err
    assert ended.err.count("\n") == 1
    assert "step 2 skipped: its loss or gradient is not finite, first in" in ended.out
    assert "warning: optimizer.lr 1e+37 is far above" in ended.out
    assert " loss -  AP 0.000" in ended.out
    report = json.loads((run / "nonfinite" / "step_2" / "report.json").read_text())
    assert len(report["image_ids"]) == 4
    assert report["first_not_finite"]["module"]


def test_a_disk_that_fills_up_ends_the_run_with_the_last_checkpoint_whole(start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / "last.ckpt"
    process = start(run, "epochs=400")
    wait_for(lambda: last_saved(run) > 0, process)
    half = checkpoint.stat().st_size // 2
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (half, half))
    said = finish(process, code=1)
    assert f"condetr: cannot write {checkpoint}: " in said
    assert "the previous content is unchanged" in said
    assert "Traceback" not in said
    assert torch.load(checkpoint, weights_only=True)["progress"]["step"] > 0
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]


def test_a_reader_that_dies_ends_the_run_with_a_word(start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run, "epochs=400", "data.workers=1")
    wait_for(lambda: last_saved(run) > 0, process)
    readers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(readers[0]), signal.SIGKILL)
    said = finish(process, code=1)
    assert "a process that reads images (out of memory? set fewer data.workers" in said
    assert "is complete, continue with --resume auto" in said
