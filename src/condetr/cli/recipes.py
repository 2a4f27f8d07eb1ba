"""`condetr recipes`: the published results that can be trained by name; `condetr config show`: all settings of one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from condetr.cli.options import AsJson, print_json
from condetr.words import ap_text

if TYPE_CHECKING:
    from condetr.recipes.registry import Recipe


def recipes(*, as_json: AsJson = False) -> None:
    """List the recipes: detector, schedule, size, work on one 800x1066 image, and the published AP on COCO."""
    from condetr.recipes.registry import RECIPES

    rows = [_describe(recipe) for recipe in RECIPES.values()]
    if as_json:
        print_json(rows)
    else:
        _print_table(rows)


def _describe(recipe: "Recipe") -> dict[str, Any]:
    from condetr.errors import InputError
    from condetr.recipes.cost import cost_of

    config = recipe.build()
    try:
        cost = cost_of(config.detector)
    except InputError:  # the library of its backbone is not installed
        cost = None
    return {
        "name": recipe.name,
        "summary": recipe.summary,
        "detector": config.detector.kind,
        "epochs": config.epochs,
        "parameters": None if cost is None else cost.parameters,
        "multiply_adds": None if cost is None else cost.multiply_adds,
        "paper_ap": recipe.paper_ap,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    caption = "GMACs: billion multiply-adds on an 800x1066 image. AP: from 0 to 1, as published for COCO."
    if any(row["parameters"] is None for row in rows):
        caption += " -: timm is not installed."
    table = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
    table.add_column("recipe", no_wrap=True)
    table.add_column("detector", no_wrap=True)
    for heading in ("epochs", "params", "GMACs", "AP"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["name"],
            row["detector"],
            str(row["epochs"]),
            "-" if row["parameters"] is None else f"{row['parameters'] / 1e6:.1f} M",
            "-" if row["multiply_adds"] is None else f"{row['multiply_adds'] / 1e9:.1f}",
            "" if row["paper_ap"] is None else ap_text(row["paper_ap"]),
        )
    Console().print(table)


config_app = typer.Typer(help="Look at settings.", no_args_is_help=True)


@config_app.command()
def show(
    recipe: Annotated[str, typer.Argument(help="A name that `condetr recipes` lists, or a YAML file of settings.")],
    *,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a setting; may be repeated.")
    ] = None,
) -> None:
    """Print a recipe's settings as YAML, as `condetr train` would take them."""
    from condetr.config import to_yaml
    from condetr.recipes import registry

    typer.echo(to_yaml(registry.recipe(recipe, *(assignments or []))), nl=False)
