"""Loggers for the numbers of a training: TensorBoard, Weights & Biases, MLflow."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from typing import Literal, Protocol, runtime_checkable

from lightning_fabric.loggers import TensorBoardLogger

from condetr.errors import InputError, RunError
from condetr.runs.folder import RunFolder


@runtime_checkable
class MetricsLogger(Protocol):
    """The common interface of the W&B, MLflow and TensorBoard loggers, with lightning's names."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers at a step."""

    def finalize(self, status: Literal["success", "failed", "aborted"]) -> None:
        """Send what is left, and say how the training ended."""


def require_loggers(names: Iterable[str]) -> None:
    """Raise InputError if the library of a logger is missing."""
    libraries = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
    missing = [libraries[name] for name in names if find_spec(libraries[name]) is None]
    if missing:
        raise InputError(f"the setting loggers needs {' and '.join(missing)}: pip install {' '.join(missing)}")


@contextmanager
def running_loggers(names: Iterable[str], *, run: RunFolder, step: int) -> Iterator[list[MetricsLogger]]:
    """Run the loggers of a training that continues after `step`, and record how it ended at the end of the block.

    Raises RunError if W&B or MLflow cannot be reached.
    """
    makers: dict[str, Callable[[RunFolder], MetricsLogger]]
    makers = {"tensorboard": partial(_tensorboard, step=step), "wandb": WandbLogger, "mlflow": MlflowLogger}
    loggers = [makers[name](run) for name in names]
    try:
        yield loggers
    except BaseException as error:
        for logger in loggers:
            with suppress(RunError):  # report the earlier error instead
                logger.finalize("failed" if isinstance(error, Exception) else "aborted")
        raise
    for logger in loggers:
        logger.finalize("success")


def _tensorboard(run: RunFolder, step: int) -> MetricsLogger:
    # Numbers that a killed process logged after its last checkpoint will be logged again.
    return TensorBoardLogger(run.path, name="", version="", purge_step=step + 1)


class WandbLogger:
    """Weights & Biases."""

    def __init__(self, run: RunFolder) -> None:
        import wandb

        with _trouble_named("wandb"):
            self._run = wandb.init(project="condetr", name=run.path.absolute().name, dir=run.path)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers at a step."""
        with _trouble_named("wandb"):
            self._run.log(dict(metrics), step=step)

    def finalize(self, status: Literal["success", "failed", "aborted"]) -> None:
        """Send what is left; otherwise wandb would continue this run in the next training of the process."""
        with _trouble_named("wandb"):
            self._run.finish(exit_code=0 if status == "success" else 1)


class MlflowLogger:
    """MLflow, at the tracking server that its own environment variables name."""

    def __init__(self, run: RunFolder) -> None:
        import mlflow

        self._mlflow = mlflow
        with _trouble_named("mlflow"):
            mlflow.set_experiment("condetr")
            mlflow.start_run(run_name=run.path.absolute().name)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers at a step."""
        with _trouble_named("mlflow"):
            self._mlflow.log_metrics(dict(metrics), step=step)

    def finalize(self, status: Literal["success", "failed", "aborted"]) -> None:
        """End the run: otherwise MLflow would mark every training as finished, and start no other in this process."""
        with _trouble_named("mlflow"):
            self._mlflow.end_run({"success": "FINISHED", "failed": "FAILED", "aborted": "KILLED"}[status])


@contextmanager
def _trouble_named(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # both libraries also raise bare Exceptions and network errors
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise RunError(
            f"{name} cannot be used ({reason}): check its login and address, or continue with --resume auto but "
            "without it in the setting loggers"
        ) from error
