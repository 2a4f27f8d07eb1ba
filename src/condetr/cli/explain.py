"""`condetr explain`: where each attention head looks for a detection, as images and as data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condetr.cli.options import AsJson, Device, Overwrite, print_json
from condetr.inference import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from rich.table import Table

    from condetr.explain.choose import Heads, Query, Shown
    from condetr.explain.measures import MapNumbers


def explain(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help="Run folder, model folder or other weights.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    *,
    beside: Annotated[
        list[str] | None, typer.Option(metavar="WEIGHTS", help="Another model to show beside it; may be repeated.")
    ] = None,
    query: Annotated[str, typer.Option(help="best, all, or the number of a query.")] = "best",
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Minimum score of a detection.")] = DEFAULT_THRESHOLD,
    layer: Annotated[int | None, typer.Option(help="Decoder layer, counted from 0; by default the last one.")] = None,
    heads: Annotated[
        str, typer.Option(help="all, sides (for each side the head that prefers it), or numbers such as 0,2,5.")
    ] = "all",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("explanation"),
    html: Annotated[
        Path | None, typer.Option(metavar="PAGE", help="Also write a page on which to click through all of it.")
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Show where each attention head looks for a detection.

    Writes an image of the spatial, content and combined attention of every head over the image (Conditional DETR,
    figure 4), the maps as arrays (.npz), and OUT/explanation.json with the numbers. With --beside it also finds the
    same object in other models and draws their spatial attention in rows (figure 1). With --html it also writes one
    HTML file on which one clicks through all layers, heads and detections of the first model.
    """
    from condetr.data.images import read_image, warn_of_frames
    from condetr.explain.choose import choose
    from condetr.explain.explorer.page import require_page, write_explorer
    from condetr.explain.record import write
    from condetr.explain.view import look
    from condetr.interop.loading import find_source, load, require_weights
    from condetr.storage.atomic import require_free

    require_free(out, overwrite=overwrite)
    if html is not None:
        require_page(html, overwrite=overwrite)
    for name in (weights, *(beside or [])):
        require_weights(find_source(name))
    wanted_query, wanted_heads = _query(query), _heads(heads)
    pixels = read_image(image).permute(1, 2, 0).numpy()
    warn_of_frames([image])
    predictor = load(weights, device=device)
    views = {weights: look(predictor, pixels, layer=layer)}
    views |= {name: look(load(name, device=device), pixels, layer=layer) for name in beside or []}
    chosen = choose(views, query=wanted_query, threshold=threshold, heads=wanted_heads)
    out.mkdir(parents=True, exist_ok=True)
    content = {"image": str(image), "detections": [write(out, models) for models in chosen]}
    _write_json(out / "explanation.json", content)
    if html is not None:
        write_explorer(
            html,
            predictor,
            pixels,
            model=weights,
            image=image.name,
            queries=[models[0].explanation.query for models in chosen],
            layer=layer,
            threshold=threshold,
        )
    if as_json:
        print_json(content)
        return
    _show([shown for models in chosen for shown in models])
    typer.echo(f"images, maps and numbers: {out}")
    if html is not None:
        typer.echo(f"page: {html}")


def _query(text: str) -> "Query":
    from condetr.errors import InputError

    if text in ("best", "all"):
        return text  # type: ignore[return-value]
    if text.isdecimal():
        return int(text)
    raise InputError(f"--query {text} is neither best, all, nor the number of a query")


def _heads(text: str) -> "Heads":
    from condetr.errors import InputError

    if text in ("all", "sides"):
        return text  # type: ignore[return-value]
    numbers = [part.strip() for part in text.split(",")]
    if all(number.isdecimal() for number in numbers):
        return [int(number) for number in numbers]
    raise InputError(f"--heads {text} is neither all, sides, nor numbers separated by commas, such as 0,2,5")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    from condetr.storage.atomic import replaced_file, write_json

    with replaced_file(path) as draft:
        write_json(draft, content)


def _show(chosen: "Sequence[Shown]") -> None:
    """Print what each detection's heads watch, and all numbers if there is only one detection of each model."""
    from rich.console import Console

    from condetr.explain.measures import who_watches
    from condetr.explain.record import measure_heads

    console = Console(highlight=False, markup=False, soft_wrap=True)
    tables = len({shown.model for shown in chosen}) == len(chosen)
    for shown in chosen:
        explanation, spatial = shown.explanation, [parts["spatial"] for parts in measure_heads(shown.explanation)]
        found = f"{explanation.name} {explanation.score:.2f}, query {explanation.query}, layer {shown.view.layer}"
        console.print(f"{shown.model}: {found}: {who_watches(spatial)}")
        if tables:
            console.print(_table(spatial))


def _table(heads: "Sequence[MapNumbers]") -> "Table":
    from rich import box
    from rich.table import Table

    from condetr.explain.measures import SIDES, watched

    table = Table("head", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), title="spatial attention", title_justify="left")
    table.add_column("watches", no_wrap=True)
    for column in (*SIDES, "in box", "x", "y", "bits"):
        table.add_column(column, justify="right", no_wrap=True)
    for number, head in enumerate(heads):
        shares = (f"{share:.0%}" for share in (*head.at_sides.values(), head.in_box))
        others = (f"{value:.2f}" for value in (*head.centre_xy, head.entropy))
        table.add_row(str(number), watched(head), *shares, *others)
    return table
