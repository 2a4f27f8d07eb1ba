"""The hours that the rows of the paper's table 1 would take on one GPU, from the speed of their training steps."""

from benchmarks.speed.gpu import TRAINING_IMAGES
from benchmarks.speed.report import Cell, Table
from benchmarks.speed.timing import alternate
from benchmarks.speed.training import make_inputs, our_step
from condetr.recipes.paper import TABLE_1, Row, train_config
from condetr.words import ap_text

COCO_IMAGES = 118_287
"""Images in train2017."""


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
