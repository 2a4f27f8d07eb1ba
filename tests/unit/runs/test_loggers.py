"""Loggers get every epoch and learn how the training ended; W&B and MLflow are tested where they are installed."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from condetr.api import fit as train
from condetr.engine.config import TrainConfig
from condetr.errors import RunError
from condetr.runs.folder import RunFolder
from condetr.runs.loggers import running_loggers

Config = Callable[..., TrainConfig]


def events(path: Path) -> Iterator[Event]:
    """Read TensorBoard's file: each event has its length before it, and checksums around it."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack_from("<Q", content)
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


def test_tensorboard_gets_every_epoch(tiny: Config, tmp_path: Path) -> None:
    train(tiny(epochs=2, loggers=("tensorboard",)), out=tmp_path / "run")
    (file,) = (tmp_path / "run").glob("events.out.tfevents*")
    steps = [event.step for event in events(file) for value in event.summary.value if value.tag == "loss"]
    assert steps == [2, 4]


@pytest.mark.filterwarnings("ignore")  # its own
def test_each_training_of_a_process_is_a_run_of_wandb(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("one", "two"):
        train(tiny(epochs=1, loggers=("wandb",)), out=tmp_path / name)
        (file,) = (tmp_path / name / "wandb").glob("offline-run-*/run-*.wandb")
        assert b"loss_giou" in file.read_bytes()


@pytest.mark.filterwarnings("ignore")  # its own
class TestMlflow:
    @pytest.fixture(autouse=True)
    def mlflow_in_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("mlflow")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())

    def test_each_training_of_a_process_is_a_run_of_mlflow(self, tiny: Config, tmp_path: Path) -> None:
        from mlflow import MlflowClient

        for name in ("one", "two"):
            train(tiny(epochs=2, loggers=("mlflow",)), out=tmp_path / name)
        client = MlflowClient()
        experiment = client.get_experiment_by_name("condetr")
        runs = client.search_runs([experiment.experiment_id], order_by=["start_time"])
        assert [(run.info.run_name, run.info.status) for run in runs] == [("one", "FINISHED"), ("two", "FINISHED")]
        for run in runs:
            assert [each.step for each in client.get_metric_history(run.info.run_id, "loss")] == [2, 4]

    @pytest.mark.parametrize(
        ("error", "status"), [(RunError, "FAILED"), (SystemExit, "KILLED"), (KeyboardInterrupt, "KILLED")]
    )
    def test_mlflow_is_told_how_it_ended(self, error: type[BaseException], status: str, tmp_path: Path) -> None:
        from mlflow import last_active_run

        with pytest.raises(error), running_loggers(["mlflow"], run=RunFolder(tmp_path / "run"), step=0):
            raise error
        assert last_active_run().info.status == status

    def test_a_server_that_cannot_be_used_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://at-all")
        with (
            pytest.raises(RunError, match=r"mlflow cannot be used .*without it in the setting loggers"),
            running_loggers(["mlflow"], run=RunFolder(tmp_path / "run"), step=0),
        ):
            pass
