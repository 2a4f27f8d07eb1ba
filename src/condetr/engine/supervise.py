"""Several processes of one command, started and ended together as torchrun does, by the same library."""

import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from condetr.engine.processes import LOST, kept_state
from condetr.errors import SUPERVISED, InputError, RunError


def supervise(arguments: Sequence[str], *, processes: int, checkpoint: Path) -> None:
    """Run `condetr` with these arguments in several processes, and return once all of them are done.

    If one of them fails, the others are ended, and its sentence is raised as InputError or RunError; of one that died
    without a word, the sentence says so and names the checkpoint. A Ctrl-C or SIGTERM is passed on, and this process
    ends like those: by KeyboardInterrupt or SystemExit(143).
    """
    logging.disable()  # torch would tell its own story of an end, too
    threads = str(max(torch.get_num_threads() // processes, 1))
    os.environ.update({SUPERVISED: "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)})
    with TemporaryDirectory(prefix="condetr-") as sentences:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=str(os.getpid()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=sentences),
        )
        try:
            # -P: a file in the current folder is not taken for a module.
            elastic_launch(config, sys.executable)("-P", "-m", "condetr", *arguments)
        except ChildFailedError as error:
            raise _cause(error, sentences=Path(sentences), processes=processes, checkpoint=checkpoint) from None
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + error.sigval) from None


def _cause(error: ChildFailedError, *, sentences: Path, processes: int, checkpoint: Path) -> InputError | RunError:
    """Return why the first process failed; the others may have had time to say that they lost one."""
    told = [json.loads(path.read_text()) for path in sentences.rglob("error.json")]
    causes = [each for each in told if not each["message"].startswith(LOST)]
    silent = {rank: failure for rank, failure in error.failures.items() if not Path(failure.error_file).is_file()}
    if not causes and silent:
        return RunError(_of_a_silent_end(*silent.popitem(), processes=processes, checkpoint=checkpoint))
    first = min(causes or told, key=lambda each: float(each["timestamp"]))
    return (InputError if first["is_input"] else RunError)(first["message"])


def _of_a_silent_end(rank: int, failure: ProcessFailure, *, processes: int, checkpoint: Path) -> str:
    how = f"was ended by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with code {failure.exitcode}"
    cause = ", maybe for lack of memory" if failure.signal_name() == "SIGKILL" else ""
    return f"process {rank + 1} of {processes} {how}{cause}, so the training cannot continue: {kept_state(checkpoint)}"
