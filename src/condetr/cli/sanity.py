"""`condetr sanity`: overfit one batch, in about a minute."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condetr.cli.options import AsJson, Assignments, Data, Overwrite, print_json
from condetr.words import ap_text, counted

if TYPE_CHECKING:
    from condetr.engine.overfit import Sanity

NOT_LEARNT = 1
"""Exit code if the batch could not be overfitted."""
DEFAULT_RECIPE = "conditional_detr_tiny"
DEFAULT_SIZE = "data.transform.size_hw=[160,160]"
"""Used with the tiny recipe, which does not resize images by default."""
ENOUGH = 0.3
"""The minimum score of a prediction that is drawn."""


def sanity(
    data: Data,
    *,
    recipe: Annotated[str, typer.Option(help="A recipe, or a YAML file of settings.")] = DEFAULT_RECIPE,
    images: Annotated[int, typer.Option(min=1, help="Number of images.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Number of steps.")] = 400,
    out: Annotated[Path | None, typer.Option(help="Folder for pictures of ground truth and predictions.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    assignments: Assignments = None,
) -> None:
    """Overfit a few images and say whether labels and settings are sound.

    A detector that cannot learn four images will not learn four thousand. Exit code 0: it learnt them; 1: it did not;
    2: bad input.
    """
    from condetr.api import open_splits
    from condetr.config import assign
    from condetr.engine.overfit import overfit
    from condetr.recipes import registry
    from condetr.storage.atomic import require_free

    if out is not None:
        require_free(out, overwrite=overwrite)
    size = [DEFAULT_SIZE] if recipe == DEFAULT_RECIPE else []
    config = registry.recipe(recipe, *size, *(assignments or []))
    config = assign(config, {"data.path": str(data)}, source="command line")
    split = open_splits(config).train
    with _Bar(steps) as bar:
        result = overfit(config, split, num_images=images, steps=steps, progress=bar.show)
    if out is not None:
        _draw(result, out)
    if as_json:
        print_json(_plain(result))
    else:
        _show(result, out=out)
    if not result.passed:
        raise typer.Exit(NOT_LEARNT)


def _plain(result: "Sanity") -> dict[str, Any]:
    return {
        "passed": result.passed,
        "verdict": result.verdict,
        "split": result.split.name,
        "images": [str(record.path) for record in result.split.records],
        "losses": list(result.losses),
        **result.evaluation.results.to_dict(),
    }


def _show(result: "Sanity", *, out: Path | None) -> None:
    scores = result.evaluation.results
    images, steps = counted(len(result.split), "image"), counted(len(result.losses), "step")
    typer.echo(
        f"{images} of {result.split.name}, {steps}: loss {result.losses[0]:.2f} "
        f"to {result.losses[-1]:.2f}, AP {ap_text(scores.AP)}, AP50 {ap_text(scores.AP50)}"
    )
    if out is not None:
        typer.echo(f"pictures in {out}")
    typer.echo(result.verdict)


class _Bar:
    """A progress bar that shows the loss."""

    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        terminal = Console(stderr=True)
        self._progress = Progress(console=terminal, transient=True, disable=not terminal.is_terminal)
        self._task = self._progress.add_task("learning", total=steps)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, step: int, loss: float) -> None:
        self._progress.update(self._task, completed=step + 1, description=f"loss {loss:.2f}")


def _draw(result: "Sanity", out: Path) -> None:
    """Write a picture for every image of the batch, ground truth on the left."""
    from PIL import Image

    from condetr.data.images import read_image
    from condetr.inference.drawing import draw_side_by_side
    from condetr.storage.atomic import replaced_folder

    with replaced_folder(out) as draft:
        for record in result.split.records:
            image = Image.fromarray(read_image(record.path).permute(1, 2, 0).numpy())
            found = result.evaluation.detections[record.image_id].above(ENOUGH)
            sheet = draw_side_by_side(image, record, found, label_map=result.split.label_map)
            sheet.save(draft / f"{record.path.stem}.png")
