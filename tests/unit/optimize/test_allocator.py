import platform
import subprocess
import sys

import pytest

GROWTH = """
import sys
from pathlib import Path
import torch
from condetr.optimize.machine import keep_memory

def mebibytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmData:")[2].split()[0]) // 1024

if sys.argv[1] == "keep":
    assert keep_memory()
before = mebibytes()
tensor = torch.empty(2**28)  # 1 GiB, which nothing touches
del tensor
print(mebibytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_freed_memory_stays_with_the_process() -> None:
    growth = {
        mode: int(subprocess.run([sys.executable, "-c", GROWTH, mode], capture_output=True, check=True).stdout)
        for mode in ("keep", "return")
    }

    assert growth["return"] < 512
    assert growth["keep"] >= 1024
