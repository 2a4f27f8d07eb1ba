"""The peak memory of a separate process."""

import subprocess
import sys
from pathlib import Path


def peak_gibibytes(module: str, *arguments: str) -> float:
    """Run a module in a new process, which ends with `print_peak`, and return that number."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak() -> None:
    """Print the peak memory of this process in GiB; getrusage would include its parent's at the start."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].removesuffix("kB")) / 2**20)
