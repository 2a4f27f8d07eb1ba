"""The hours that the rows of the paper's table 1 would take: on one GPU measured, on several worked out.

`python -m benchmarks.speed.hours` prints the latter, for any GPU and network.
"""

import argparse
from typing import NamedTuple

from benchmarks.speed.gpu import TRAINING_IMAGES
from benchmarks.speed.report import Cell, Table, show
from benchmarks.speed.timing import alternate
from benchmarks.speed.training import make_inputs, our_step
from condetr.recipes.cost import cost_of
from condetr.recipes.paper import TABLE_1, Row, train_config
from condetr.words import ap_text

COCO_IMAGES = 118_287
"""Images in train2017."""
OPERATIONS = 6
"""Of a training step for each multiply-add of a prediction: two, and as much again for each of both gradients."""


class Cluster(NamedTuple):
    """What is assumed about GPUs and the network between them."""

    teraflops: float
    """Operations a second that a GPU can make at most, in millions of millions."""
    utilisation: float
    """The part of them that training makes use of."""
    gigabytes: float
    """Bytes a second between the GPUs of a machine, in thousands of millions."""
    gigabytes_between: float
    """The same between machines."""
    per_machine: int = 8


def measure(*, quick: bool, device: str = "cuda") -> Table:
    """Time steps of every model in the table, in bf16; a device other than a GPU is for trying the code out."""
    size_hw, rounds, table = ((128, 160), 2, TABLE_1[:1]) if quick else ((800, 1066), 9, TABLE_1)
    models = {row.title: row for row in table}
    speeds = {
        title: _images_per_second(row, size_hw=size_hw, rounds=rounds, device=device) for title, row in models.items()
    }
    rows: list[tuple[Cell, ...]] = [
        (row.title, row.epochs, ap_text(row.ap), speeds[row.title], row.epochs * COCO_IMAGES / speeds[row.title] / 3600)
        for row in table
    ]
    return Table(
        name="hours",
        title="Table 1 of the paper on one GPU, bf16",
        columns=("", "epochs", "the paper's AP", "images/s", "hours"),
        rows=rows,
        headline={f"{table[0].title}, {table[0].epochs} epochs, hours": float(rows[0][-1] or 0)},
        computed_by="GPU",
        notes=[
            f"worked out from steps on images of {size_hw[0]} x {size_hw[1]}, 8 a step and 4 with DC5, 7 boxes each",
            f"{COCO_IMAGES:,} images an epoch; evaluation and reading images are left out",
        ],
    )


def _images_per_second(row: Row, *, size_hw: tuple[int, int], rounds: int, device: str) -> float:
    images = TRAINING_IMAGES["DC5-R50" if row.dilation else "R50"]
    batch = make_inputs(images=images, size_hw=size_hw).to(device)
    step = our_step(batch, bf16=True, config=train_config(row))
    return images / alternate({row.title: step}, rounds=rounds, device=device)[row.title]


def worked_out(cluster: Cluster, *, gpus: tuple[int, ...] = (8, 64)) -> Table:
    """Work out the hours of every row on several GPUs from its operations and the bytes of its gradients."""
    rows = []
    for row in TABLE_1:
        for count in gpus:
            rows.append(_row(row, cluster, gpus=count))
    return Table(
        name="hours_on_several",
        title="Table 1 of the paper on several GPUs, worked out and not measured",
        columns=(
            "",
            "epochs",
            "GPUs",
            "images in a step",
            "ms a step",
            "of it gradients",
            "images/s a machine",
            "hours",
        ),
        rows=rows,
        headline={f"{TABLE_1[0].title}, {TABLE_1[0].epochs} epochs, {gpus[0]} GPUs, hours": float(rows[0][-1] or 0)},
        notes=[
            f"assumed: {cluster.teraflops:g} teraflop/s a GPU, of which {cluster.utilisation:.0%} are used; "
            f"{cluster.gigabytes:g} GB/s between the GPUs of a machine, {cluster.gigabytes_between:g} GB/s between "
            f"machines of {cluster.per_machine}",
            f"operations: {OPERATIONS} for each multiply-add of a prediction at 800 x 1066; gradients: 4 bytes for "
            "each parameter, exchanged in a ring after the step's computation, although much of it is done beside it",
            f"{COCO_IMAGES:,} images an epoch; evaluation is left out, and reading is taken to be fast enough",
        ],
    )


def _row(row: Row, cluster: Cluster, *, gpus: int) -> tuple[Cell, ...]:
    config = train_config(row)
    cost = cost_of(config.detector)
    each = config.data.batch_size // 8  # as on the authors' 8 GPUs
    computing = each * OPERATIONS * cost.multiply_adds / (cluster.teraflops * 1e12 * cluster.utilisation)
    slowest = cluster.gigabytes if gpus <= cluster.per_machine else cluster.gigabytes_between
    exchanging = 2 * (gpus - 1) / gpus * 4 * cost.parameters / (slowest * 1e9)
    step = computing + exchanging
    a_second = gpus * each / step
    return (
        row.title,
        str(row.epochs),
        str(gpus),
        str(gpus * each),
        1e3 * step,
        1e3 * exchanging,
        a_second * min(gpus, cluster.per_machine) / gpus,
        row.epochs * COCO_IMAGES / a_second / 3600,
    )


def _parsed() -> Cluster:
    """Return what the command line assumes; by default what the authors of DETR had.

    A V100 makes 15.7 teraflop/s in fp32. The 28 minutes that an epoch of DETR-R50 takes on 8 of them, as its README
    says, are 27 % of that.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.hours", description=__doc__)
    parser.add_argument("--teraflops", type=float, default=15.7)
    parser.add_argument("--utilisation", type=float, default=0.27)
    parser.add_argument("--gigabytes", type=float, default=100.0, help="a second, between the GPUs of a machine")
    parser.add_argument("--gigabytes-between", type=float, default=12.5, help="a second, between machines")
    return Cluster(**vars(parser.parse_args()))


if __name__ == "__main__":
    print(show(worked_out(_parsed())))
