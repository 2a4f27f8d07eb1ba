"""The most memory that a process of its own ever had."""

import resource
import subprocess
import sys


def peak_gibibytes(module: str, *arguments: str) -> float:
    """Run a module in a new process, which ends with `print_peak`, and return what that says."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak() -> None:
    """Print the most memory that this process ever had, in GiB."""
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
