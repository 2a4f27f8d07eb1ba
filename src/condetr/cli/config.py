"""`condetr config show`: the settings of a recipe."""

from typing import Annotated

import typer

app = typer.Typer(help="Show settings.", no_args_is_help=True)


@app.command()
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
