"""SIGTERM and Ctrl-C as requests: the step is finished and saved before the process ends."""

import signal
import threading
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest(AbstractContextManager["StopRequest"]):
    """Inside the block, the first SIGTERM or Ctrl-C is only recorded; a second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.is_agreed = False
        """True once all processes know that one of them was asked to stop."""
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # no other one may handle signals
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def end(self) -> NoReturn:
        """Raise the exception that ends the process: KeyboardInterrupt (exit code 130), or SystemExit with code 143."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # torchrun and batch systems may send SIGTERM twice; only a person repeats Ctrl-C.
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)
