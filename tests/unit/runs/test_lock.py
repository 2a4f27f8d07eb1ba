import errno
import os
from pathlib import Path

import pytest
from filelock import FileLock

from condetr.api import fit as train
from condetr.errors import InputError
from tests.unit.conftest import Config


def contents(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_that_another_training_is_at_work_in_is_left_alone(
    tiny: Config, tmp_path: Path, *, resume: bool
) -> None:
    run = tmp_path / "run"
    if resume:
        train(tiny(epochs=1), out=run)
    else:
        run.mkdir()
    with FileLock(run / ".lock") as lock:
        Path(lock.lock_file).write_text("\nprocess 4711 on trainer")
        before = contents(run)
        with pytest.raises(InputError, match=r"another training, process 4711 on trainer, is using .*run: let"):
            train(tiny(epochs=2), out=run, resume=resume)
        assert contents(run) == before


def test_the_lock_of_a_process_that_was_killed_does_not_hold(tiny: Config, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("\nprocess 4711 on trainer")
    train(tiny(epochs=1), out=tmp_path / "run")
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_training_does_without_where_there_are_no_locks(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_: FileLock) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    assert train(tiny(epochs=1), out=tmp_path / "run").facts.epochs == 1


def test_a_training_that_is_refused_leaves_no_folder(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        train(tiny(init_from=str(tmp_path / "nowhere")), out=tmp_path / "runs" / "mine" / "run")
    assert list(tmp_path.iterdir()) == []
