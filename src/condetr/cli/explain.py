"""`condetr explain`: where each attention head looks for a detection, or over a data set, as images and as data."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from condetr.cli.options import AsJson, Device, Overwrite, Threshold, print_json, say_what_was_understood
from condetr.words import counted

if TYPE_CHECKING:
    from rich.table import Table

    from condetr.data.dataset import ImageRecord
    from condetr.explain.choose import Heads, Query, Shown
    from condetr.explain.habits import Habits
    from condetr.explain.measures import MapNumbers


def explain(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help="Run folder, model folder or other weights.")],
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="An image file.")] = None,
    *,
    over: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Instead of an image: what each head watches over a whole data set."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="With --over. Default: the validation or the test split, or what the run held out."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="With --over: so many images at most, spread over the split.")
    ] = None,
    beside: Annotated[
        list[str] | None, typer.Option(metavar="WEIGHTS", help="Another model to show beside it; may be repeated.")
    ] = None,
    query: Annotated[str, typer.Option(help="best, all, or the number of a query.")] = "best",
    threshold: Threshold = None,
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
    figure 4), or the points that it looks at, the same as arrays (.npz), and OUT/explanation.json with the numbers.
    With --beside it also finds the same object in other models and draws their spatial attention in rows (figure 1).
    With --html it also writes one HTML file on which one clicks through all layers, heads and detections.

    With --over it counts what every head of every layer watches for the detections in a data set, by size and by class:
    OUT/habits.png and OUT/habits.json.
    """
    if over is not None:
        _require_only_over(image=image, beside=beside, query=query, layer=layer, heads=heads, html=html)
        _explain_over(
            weights, over, split=split, images=images, threshold=threshold, out=out, device=device,
            overwrite=overwrite, as_json=as_json,
        )  # fmt: skip
        return
    _require_image(image, split=split, images=images)
    assert image is not None
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
    models = {name: load(name, device=device) for name in (weights, *(beside or []))}
    views = {name: look(predictor, pixels, layer=layer) for name, predictor in models.items()}
    chosen = choose(views, query=wanted_query, threshold=threshold, heads=wanted_heads)
    out.mkdir(parents=True, exist_ok=True)
    content = {"image": str(image), "detections": [write(out, models) for models in chosen]}
    _write_json(out / "explanation.json", content)
    if html is not None:
        write_explorer(
            html,
            models.pop(weights),
            pixels,
            model=weights,
            beside=models,
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


def _require_only_over(**others: object) -> None:
    """Raise InputError if an option is given that is about one image."""
    from condetr.errors import InputError

    defaults = {"query": "best", "heads": "all"}
    given = [name for name, value in others.items() if value not in (None, [], defaults.get(name))]
    if given:
        named = " and ".join("IMAGE" if name == "image" else f"--{name}" for name in given)
        raise InputError(f"--over explains a whole data set, in all layers and heads: leave out {named}")


def _require_image(image: Path | None, *, split: str | None, images: int | None) -> None:
    """Raise InputError if there is no image, or an option is given that is about data sets."""
    from condetr.errors import InputError

    if image is None:
        raise InputError("name an image to explain, or a data set with --over")
    given = [f"--{name}" for name, value in (("split", split), ("images", images)) if value is not None]
    if given:
        raise InputError(f"{' and '.join(given)} cannot be used with one image, only with a data set: --over DATA")


def _explain_over(
    weights: str,
    data: Path,
    *,
    split: str | None,
    images: int | None,
    threshold: float | None,
    out: Path,
    device: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    from condetr.data.images import read_image
    from condetr.errors import InputError
    from condetr.explain.habits import draw_habits, habits_of, see, spread
    from condetr.explain.view import num_layers
    from condetr.interop.loading import load
    from condetr.runs.part import open_part
    from condetr.storage.atomic import replaced_file, require_free

    say_what_was_understood(data, quiet=as_json)
    require_free(out, overwrite=overwrite)
    predictor = load(weights, device=device)
    layers = num_layers(predictor.detector)
    threshold = predictor.threshold if threshold is None else threshold
    part = open_part(data, weights=weights, split=split)
    records = spread(part.split.records, images)
    habits = habits_of(
        see(predictor, read_image(record.path).permute(1, 2, 0).numpy(), threshold=threshold)
        for record in _tracked(records)
    )
    if not habits.detections:
        raise InputError(
            f"nothing in {counted(habits.images, 'image')} scores {threshold:g} or more; lower --threshold"
        )
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "model": weights, "data": str(data), "split": part.split.name, "threshold": threshold, **habits.to_dict()
    }  # fmt: skip
    _write_json(out / "habits.json", content)
    with replaced_file(out / "habits.png") as draft:
        draw_habits(habits).savefig(draft, facecolor="white")
    if as_json:
        print_json(content)
        return
    typer.echo(part.title(weights=weights, data=data))
    _show_habits(habits, layer=layers - 1)
    typer.echo(f"picture and numbers of all layers: {out}")


def _tracked(records: "Sequence[ImageRecord]") -> "Iterable[ImageRecord]":
    from rich.console import Console
    from rich.progress import track

    terminal = Console(stderr=True)
    return track(records, description="looking", console=terminal, transient=True, disable=not terminal.is_terminal)


def _show_habits(habits: "Habits", *, layer: int) -> None:
    """Print what each head of a layer watches in all detections, and what it watches most by size and class."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from condetr.explain.habits import PLACES

    everything, *groups = habits.groups
    assert everything.shares is not None
    heads = everything.shares[layer].tolist()
    shown = [place for place, *shares in zip(PLACES, *heads, strict=True) if any(shares)]
    title = f"share of {counted(everything.detections, 'detection')} in which a head of layer {layer} watches"
    table = Table("head", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), title=title, title_justify="left")
    for column in shown:
        table.add_column(column, justify="right", no_wrap=True)
    for number, shares in enumerate(heads):
        by_place = dict(zip(PLACES, shares, strict=True))
        table.add_row(str(number), *(f"{by_place[place]:.0%}" if by_place[place] else "" for place in shown))
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    for group in groups:
        most = [f"{head} {place} {share:.0%}" for head, (place, share) in enumerate(group.most_watched(layer=layer))]
        console.print(f"{group.name}, {counted(group.detections, 'detection')}", *most, sep=" · ")


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

    console = Console(highlight=False, markup=False, soft_wrap=True)
    tables = len({shown.model for shown in chosen}) == len(chosen)
    for shown in chosen:
        explanation, places = shown.explanation, shown.explanation.places()
        found = f"{explanation.name} {explanation.score:.2f}, query {explanation.query}, layer {shown.view.layer}"
        console.print(f"{shown.model}: {found}: {who_watches(places)}")
        if tables:
            console.print(_table(places, of=next(iter(explanation.numbers()[0]))))


def _table(heads: "Sequence[MapNumbers]", *, of: str) -> "Table":
    from rich import box
    from rich.table import Table

    from condetr.explain.measures import SIDES, watched

    table = Table(
        "head", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), title=f"where heads look: {of}", title_justify="left"
    )
    table.add_column("watches", no_wrap=True)
    for column in (*SIDES, "in box", "x", "y", "bits"):
        table.add_column(column, justify="right", no_wrap=True)
    for number, head in enumerate(heads):
        shares = (f"{share:.0%}" for share in (*head.at_sides.values(), head.in_box))
        others = (f"{value:.2f}" for value in (*head.centre_xy, head.entropy))
        table.add_row(str(number), watched(head), *shares, *others)
    return table
