"""Peak memory of a DC5 training step, each contender in a process of its own."""

import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.speed.peak import peak_gibibytes, print_peak
from benchmarks.speed.report import Cell, Table
from benchmarks.speed.timing import PRECISIONS
from benchmarks.speed.training import DC5_R50, make_inputs, our_step, their_step

CONTENDERS = tuple(f"{library} {precision}" for precision in PRECISIONS for library in ("transformers", "ours"))


def measure(*, quick: bool) -> Table:
    """Let each contender make a step, and read the peak memory of its process."""
    side = "320" if quick else "1333"
    threads = str(torch.get_num_threads())
    gibibytes = {name: peak_gibibytes("benchmarks.speed.memory", name, side, threads) for name in CONTENDERS}
    return Table(
        name="memory",
        title=f"Peak memory of a training step, Conditional DETR-DC5-R50, one image {side} wide",
        columns=("", "GiB"),
        rows=[_row(name, value) for name, value in gibibytes.items()],
        headline={
            f"{precision} share of transformers": gibibytes[f"ours {precision}"]
            / gibibytes[f"transformers {precision}"]
            for precision in PRECISIONS
        },
        notes=["the whole process, libraries and weights included; dropout 0.1 everywhere in both"],
    )


def _row(name: str, value: float) -> tuple[Cell, ...]:
    return name, value


def _one_step(name: str, *, width: int, threads: int) -> None:
    torch.set_num_threads(threads)
    batch = make_inputs(images=1, size_hw=(width * 800 // 1333, width))
    bf16 = name.endswith("bf16")
    with tempfile.TemporaryDirectory() as folder:
        if name.startswith("ours"):
            step = our_step(batch, bf16=bf16, config=DC5_R50)
        else:
            step = their_step(Path(folder) / "model", batch, bf16=bf16, config=DC5_R50)
        step()
    print_peak()


if __name__ == "__main__":
    _one_step(sys.argv[1], width=int(sys.argv[2]), threads=int(sys.argv[3]))
