"""Let the machines of a Ray cluster share the shards of a job, with Ray Data.

Each worker is an actor with a GPU, or with a core. The detector is sent to each once. Ray starts workers anew that were
lost, and gives their shards to others; a shard that is done twice has the same content, and takes the same place.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from condetr.errors import InputError, RunError, first_line
from condetr.inference.predictor import Predictor
from condetr.inference.shards.job import Done, Folder, Job, Shard
from condetr.inference.shards.work import Worker
from condetr.optimize.machine import keep_memory

if TYPE_CHECKING:
    import ray


def require_ray() -> None:
    """Raise InputError if Ray is not installed."""
    try:
        import ray.data  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise InputError(f"--engine ray needs Ray ({first_line(error)}): pip install 'condetr[ray]'") from None


def run_on_ray(
    shards: Iterable[Shard],
    predictor: Predictor,
    job: Job,
    folder: Folder,
    *,
    workers: int | None,
    advance: Callable[[int], object],
) -> Generator[Done]:
    """Do shards on the cluster that RAY_ADDRESS names, that runs here already, or that is started for this command.

    `predictor` is on the CPU and not optimized; `folder` is one that all machines share. Raises RunError if Ray gives
    up, or if a worker cannot write.
    """
    import ray

    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of the model, which is kept below
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # what a busy machine or an unreachable cluster raises has no common class
        raise RunError(f"Ray could not be started or reached ({first_line(error)})") from None
    settings = ray.data.DataContext.get_current()
    settings.enable_progress_bars = False
    settings.max_errored_blocks = 0
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what matters arrives as an exception
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    rows = [{"shard": json.dumps(shard._asdict())} for shard in shards]
    most = int(ray.cluster_resources().get("GPU" if has_gpus else "CPU", 1))
    model = ray.put(predictor)  # kept here for as long as the work lasts: a worker that starts anew asks for it
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _Actor,  # type: ignore[arg-type]  # of a class, Ray makes actors
        fn_constructor_args=(model, job, folder, Path.cwd()),
        compute=ray.data.ActorPoolStrategy(size=min(workers or most, len(rows))),
        num_cpus=1,
        num_gpus=1 if has_gpus else 0,
    )
    try:
        for row in done.iter_rows():
            result = Done(**json.loads(row["done"]))
            advance(result.images + len(result.errors))
            yield result
    except ray.exceptions.RayError as error:
        raise RunError(_reason(error)) from None
    finally:
        del model


class _Actor:
    """A worker of the cluster."""

    def __init__(self, model: "ray.ObjectRef[Predictor]", job: Job, folder: Folder, start: Path) -> None:
        import ray

        os.chdir(start)  # files may be named from there
        if not ray.get_gpu_ids():
            torch.set_num_threads(
                1
            )  # of its core, whatever OMP_NUM_THREADS says: other numbers of threads round otherwise
        keep_memory()
        sent = ray.get(model)
        here = Predictor(
            sent.detector, transform=sent.transform, label_map=sent.label_map, threshold=sent.own_threshold
        )
        self.worker = Worker(here.optimize(job.precision, engine=job.engine), job, folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"done": json.dumps(self.worker.do(Shard(**json.loads(row["shard"])))._asdict())}


def _reason(error: Exception) -> str:
    """Return the sentence of a worker, of whose error only the text arrives, or else of Ray."""
    sentences = re.findall(rf"^.*\b{RunError.__name__}: (.+)$", str(error), flags=re.MULTILINE)
    return sentences[-1] if sentences else f"Ray gave up: {first_line(error)}"
