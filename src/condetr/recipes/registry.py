"""All recipes by name."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from condetr.config import load, override
from condetr.engine.config import TrainConfig
from condetr.errors import InputError
from condetr.recipes import deformable, faster, paper, small, table2
from condetr.recipes.cost import PublishedCost


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Complete training settings under a name."""

    name: str
    make: Callable[[], TrainConfig]
    summary: str
    on_coco: bool
    """Whether it trains on COCO, as its paper did."""
    size_hw: tuple[int, int]
    """Size of the images that its multiply-adds are counted for."""
    paper_ap: float | None = None
    """Published AP on COCO val2017, of 0 to 1."""
    paper_cost: PublishedCost | None = None

    def build(self) -> TrainConfig:
        """Return the settings."""
        return replace(self.make(), recipe=self.name)


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name; raises InputError with the nearest one if there is none."""
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.3)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(f"unknown recipe {name!r}; {hint}`condetr recipes` lists them all")


def recipe(name: str, *assignments: str) -> TrainConfig:
    """Return a recipe's settings, or those in a YAML file such as a run folder's config.yaml, changed as by `--set`.

    An assignment is a `path=value` such as "data.path=shapes" or "optimizer.lr=2e-4", its value read as YAML. Raises
    InputError, with the nearest name if there is one, for a recipe or setting that does not exist.
    """
    settings = load(TrainConfig, Path(name)) if name.endswith((".yaml", ".yml")) else find_recipe(name).build()
    return override(settings, assignments)


def _published_recipes() -> list[Recipe]:
    rows: list[tuple[paper.Row | faster.Row | deformable.Row | table2.Row, Callable[[], TrainConfig]]]
    rows = [(row, partial(paper.train_config, row)) for row in paper.TABLE_1]
    rows += [(row, partial(faster.train_config, row)) for row in faster.ROWS]
    rows += [(row, partial(deformable.train_config, row)) for row in deformable.ROWS]
    rows += [(row, partial(table2.train_config, row)) for row in table2.ROWS]
    return [
        Recipe(
            name=row.name,
            make=make,
            summary=f"{row.title}, {row.epochs} epochs on COCO",
            on_coco=True,
            size_hw=(800, 1066),
            paper_ap=row.ap,
            paper_cost=row.cost,
        )
        for row, make in rows
    ]


def _small_recipes() -> list[Recipe]:
    sides = {
        small.conditional_detr_tiny: 128,
        small.detr_tiny: 128,
        small.conditional_detr_mobilenet: 320,
        small.detr_mobilenet: 320,
        small.deformable_detr_mobilenet: 320,
        small.fcos_mobilenet: 320,
        small.faster_rcnn_mobilenet: 320,
        small.tsp_fcos_mobilenet: 320,
        small.tsp_rcnn_mobilenet: 320,
    }
    return [
        Recipe(
            name=make.__name__,
            make=make,
            summary=(make.__doc__ or "").splitlines()[0].rstrip("."),
            on_coco=False,
            size_hw=(side, side),
        )
        for make, side in sides.items()
    ]


RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (*_small_recipes(), *_published_recipes())}
