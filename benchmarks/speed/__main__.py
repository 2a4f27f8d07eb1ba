"""`python -m benchmarks.speed [TABLE ...] [--quick] [--threads N]`: measure, print, and write benchmarks/results."""

import argparse
import importlib
import os
import subprocess
import sys

ON_GPU = ("gpu", "hours")
ASKED_FOR = ("cluster", "eight_bits")  # they need Ray, and NNCF
TABLES = (
    "inference",
    "losses",
    "training",
    "loading",
    "reading",
    "sources",
    "evaluation",
    "memory",
    "scaling",
    "processes",
    "streaming",
    "busy",
    *ON_GPU,
)


def main() -> None:
    """Run each table in a process of its own, so that none inherits another's memory or threads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument(
        "tables",
        nargs="*",
        metavar="TABLE",
        help=f"any of {', '.join(TABLES)}; by default these; or {', '.join(ASKED_FOR)}",
    )
    parser.add_argument("--quick", action="store_true", help="fewer runs on smaller inputs; nothing is written")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.tables) - {*TABLES, *ASKED_FOR}
    if unknown:
        parser.error(f"there is no table {sorted(unknown)[0]!r}: choose from {', '.join((*TABLES, *ASKED_FOR))}")
    if arguments.here:
        _measure(arguments.tables[0], quick=arguments.quick, threads=arguments.threads)
        return
    options = ["--here", "--threads", str(arguments.threads), *(["--quick"] if arguments.quick else [])]
    for table in arguments.tables or TABLES:
        subprocess.run([sys.executable, "-m", "benchmarks.speed", table, *options], check=True)


def _measure(name: str, *, quick: bool, threads: int) -> None:
    load_before = os.getloadavg()[0]
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    from benchmarks.speed import report

    if name in ON_GPU and not torch.cuda.is_available():
        print(f"{name}: not measured, because torch finds no GPU")
        return
    torch.set_num_threads(threads)
    table = importlib.import_module(f"benchmarks.speed.{name}").measure(quick=quick)
    print(report.show(table) if quick else report.publish(table, load_before=load_before))


if __name__ == "__main__":
    main()
