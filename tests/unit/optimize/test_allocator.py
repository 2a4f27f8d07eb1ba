import platform
import resource
import subprocess
import sys

import pytest

PAGE_FAULTS = """
import resource
import sys
import torch
from condetr.optimize.allocator import keep_memory

if sys.argv[1] == "keep":
    assert keep_memory()
torch.zeros(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.zeros(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_memory_that_is_kept_is_not_fetched_again() -> None:
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", PAGE_FAULTS, mode], capture_output=True, check=True).stdout)
        for mode in ("keep", "return")
    }
    pages = 2**26 // resource.getpagesize()

    assert faults["return"] > 10 * pages / 512  # large pages at most
    assert faults["keep"] < faults["return"] / 5
