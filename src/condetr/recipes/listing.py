"""What `condetr recipes` shows, kept in listing.json because counting it means building every detector.

`python -m condetr.recipes.listing` counts again and writes the file; a test refuses a file that is out of date.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from condetr.recipes.registry import Recipe

LISTING = Path(__file__).with_name("listing.json")


def read() -> list[dict[str, Any]]:
    """Return a row for each recipe, in the order of the registry; imports nothing heavy."""
    rows: list[dict[str, Any]] = json.loads(LISTING.read_text())
    return rows


def describe(recipe: "Recipe") -> dict[str, Any]:
    """Build a recipe's detector and return its row. Raises InputError without the library of its backbone."""
    from condetr.recipes.cost import cost_of

    config = recipe.build()
    cost = cost_of(config.detector, size_hw=recipe.size_hw)
    paper = recipe.paper_cost
    return {
        "name": recipe.name,
        "summary": recipe.summary,
        "detector": config.detector.kind,
        "epochs": config.epochs,
        "on_coco": recipe.on_coco,
        "size_hw": list(recipe.size_hw),
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "paper_parameters_millions": None if paper is None else paper.parameters,
        "paper_multiply_adds_billions": None if paper is None else paper.multiply_adds,
        "paper_ap": recipe.paper_ap,
    }


def write() -> None:
    """Count every recipe again and replace listing.json."""
    from condetr.recipes.registry import RECIPES
    from condetr.storage.atomic import write_text

    rows = (json.dumps(describe(recipe)) for recipe in RECIPES.values())
    write_text(LISTING, "[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    write()
