"""Arguments and options that several commands have in common, so that they are called and explained alike."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Weights = Annotated[Path, typer.Argument(metavar="WEIGHTS", help="Run folder, model folder, official .pth or hub id.")]

Data = Annotated[Path, typer.Argument(metavar="DATA", help="Folder or file in COCO, Pascal VOC or YOLO layout.")]

Device = Annotated[str | None, typer.Option(help="Such as cpu or cuda; else the GPU if there is one.")]

Precision = Annotated[
    Literal["fp32", "bf16", "auto"],
    typer.Option(help="bf16 is faster and a little less exact; auto takes it where the machine computes in it."),
]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")]

Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change any setting; may be repeated.")
]
