"""How a training ends when a process that it needs has ended."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from condetr.engine.processes import lost_processes_named
from condetr.errors import RunError


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_reader_that_dies_while_handing_over_a_batch_is_named(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = iter(DataLoader(TensorDataset(torch.arange(3)), num_workers=1))

    def broken(timeout: float) -> None:
        raise error

    monkeypatch.setattr(batches, "_data_queue", type("Queue", (), {"get": staticmethod(broken)}))
    with (
        pytest.raises(RunError, match=r"a process that reads images .* has ended.*nothing was saved yet"),
        lost_processes_named(checkpoint=tmp_path / "last.safetensors"),
    ):
        next(batches)


def test_other_broken_connections_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), lost_processes_named(checkpoint=tmp_path / "last.safetensors"):
        raise ConnectionResetError
