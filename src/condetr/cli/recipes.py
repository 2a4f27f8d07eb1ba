"""`condetr recipes`: the published results that can be trained by name; `condetr config show`: all settings of one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from condetr.cli.options import AsJson, print_json
from condetr.words import ap_text

if TYPE_CHECKING:
    from rich.table import Table


def recipes(*, as_json: AsJson = False) -> None:
    """List the recipes: schedule, parameters and work on one image, each beside the paper's, and the published AP."""
    from condetr.recipes import listing

    rows = listing.read()
    if as_json:
        print_json(rows)
    else:
        _print_tables(rows)


def _print_tables(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console

    console = Console()
    console.print(_table_of_small([row for row in rows if not row["on_coco"]]))
    console.print()
    console.print(_table_of_published([row for row in rows if row["on_coco"]]))


def _table_of_small(rows: list[dict[str, Any]]) -> "Table":
    table = _table("For a laptop")
    for heading in ("params", "GMACs", "image"):
        table.add_column(heading, justify="right")
    table.add_column("what it is")
    for row in rows:
        height, width = row["size_hw"]
        table.add_row(row["name"], *_cost(row), f"{height}x{width}", row["summary"])
    return table


def _table_of_published(rows: list[dict[str, Any]]) -> "Table":
    table = _table(
        "Published results on COCO",
        caption="GMACs: billion multiply-adds on an image of 800x1066, convolutions and matrix products. "
        "(paper): as printed there, a mean over COCO's images. AP: published, from 0 to 1.",
    )
    for heading in ("epochs", "params", "(paper)", "GMACs", "(paper)", "AP"):
        table.add_column(heading, justify="right")
    for row in rows:
        params, gmacs = _cost(row)
        of_paper = [row["paper_parameters_millions"], row["paper_multiply_adds_billions"]]
        params_of_paper, gmacs_of_paper = ("" if number is None else str(number) for number in of_paper)
        ap = "" if row["paper_ap"] is None else ap_text(row["paper_ap"])
        table.add_row(row["name"], str(row["epochs"]), params, params_of_paper, gmacs, gmacs_of_paper, ap)
    return table


def _table(title: str, *, caption: str | None = None) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, caption=caption, caption_justify="left")
    table.add_column("recipe", no_wrap=True)
    return table


def _cost(row: dict[str, Any]) -> tuple[str, str]:
    return f"{row['parameters'] / 1e6:.1f} M", f"{row['multiply_adds'] / 1e9:.1f}"


config_app = typer.Typer(help="Look at settings.", no_args_is_help=True)


@config_app.command()
def show(
    recipe: Annotated[str, typer.Argument(help="A name that `condetr recipes` lists, or a YAML file of settings.")],
    *,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a setting; may be repeated.")
    ] = None,
) -> None:
    """Print a recipe's settings as YAML that `condetr train` takes, with what each of them means."""
    from condetr.config import explained_yaml
    from condetr.recipes import registry

    typer.echo(explained_yaml(registry.recipe(recipe, *(assignments or []))), nl=False)
