"""What all tests share: few threads, ears for Ctrl-C, seeded numbers, quick and repeatable laws, and a browser."""

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

# Tensors in tests are tiny: more threads only get in one another's way. Set before torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is measured beside other tests is not for the user's cache. Processes that tests start share this one.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["CONDETR_CACHE"] = tempfile.mkdtemp(prefix="condetr-tests-")
    atexit.register(shutil.rmtree, os.environ["CONDETR_CACHE"], ignore_errors=True)

# A shell starts background jobs deaf to Ctrl-C, and the commands under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("condetr", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("condetr")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Let every test draw the same numbers, whatever ran before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Chromium without a window; the test is skipped where that or Playwright is missing."""
    playwright: Any = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as tools:
        try:
            opened = tools.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
            )
        except playwright.Error as error:
            pytest.skip(f"no Chromium can be started: {error}")
        yield opened
        opened.close()
