"""A training does not depend on where its images are: in a folder, in tar files or in a storage."""

import signal
from pathlib import Path

import pytest
import torch

from tests.trust.conftest import Start, finish, last_saved, wait_for
from tests.trust.test_stops import stop_in_flight
from tests.unit.data.stored.test_tars import pack_images

SETTINGS = (
    "epochs=3",
    "data.cache_mb=0",
    "data.batch_size=2",
    "detector.dropout=0.1",
    "data.transform.dense.mosaic=0.5",
)
EXACT = ("metrics.csv", "best/model.safetensors", "predictions.json", "labels.json")


def test_a_training_from_tar_files_in_a_storage_that_is_killed_ends_like_one_from_a_folder(
    start: Start, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDETR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CONDETR_CACHE_GIB", "0.00001")
    pack_images(scenes, tmp_path / "packed")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    together = start(whole, *SETTINGS)

    killed = start(cut, *SETTINGS, "data.workers=0", data=f"file://{tmp_path}/packed")
    stop_in_flight(killed, cut, signal.SIGKILL, after=0)
    said = finish(start(cut, *SETTINGS, "data.workers=2", data=str(tmp_path / "packed")))
    finish(together)

    assert killed.returncode == -signal.SIGKILL
    assert "resuming after step" in said
    assert [name for name in EXACT if (cut / name).read_bytes() != (whole / name).read_bytes()] == []
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (cut, whole)]
    for part in ("detector", "optimizer"):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=0)


def test_a_storage_that_fails_in_training_ends_it_in_a_sentence(start: Start, scenes: Path, tmp_path: Path) -> None:
    pack_images(scenes, tmp_path / "packed")
    process = start(tmp_path / "run", "epochs=4000", "data.workers=1", "data.cache_mb=0", data=str(tmp_path / "packed"))
    wait_for(lambda: last_saved(tmp_path / "run") > 0, process)
    (tar, *_) = (tmp_path / "packed").rglob("*.tar")
    tar.unlink()

    said = finish(process, code=2)

    assert "Traceback" not in said
    assert f"{tar} cannot be read: No such file or directory" in said
