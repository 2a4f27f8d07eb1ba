"""Contenders in a separate process, for comparisons that involve a setting of the whole process."""

import multiprocessing
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
import torch

Runs = Mapping[str, Callable[[], Any]]


class Elsewhere:
    """A process that builds contenders and runs them one at a time, on request; it sleeps in between."""

    def __init__(self, make: Callable[[], Runs]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(make, theirs, torch.get_num_threads()), daemon=True)

    def __enter__(self) -> "Elsewhere":
        """Start the process."""
        self.process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.connection.send(None)
        self.process.join()

    def run(self, name: str) -> np.ndarray:
        """Run one contender and return what it computed."""
        self.connection.send(name)
        result: np.ndarray = self.connection.recv()
        return result


def _serve(make: Callable[[], Runs], connection: Connection, threads: int) -> None:
    torch.set_num_threads(threads)
    with torch.inference_mode():
        runs = make()
        while (name := connection.recv()) is not None:
            connection.send(runs[name]())
