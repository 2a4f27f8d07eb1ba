import json

import pytest

from condetr.recipes.listing import describe, read
from condetr.recipes.registry import RECIPES, Recipe

pytest.importorskip("timm")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_the_listing_says_what_counting_says(recipe: Recipe) -> None:
    listed = {row["name"]: row for row in read()}
    assert listed.get(recipe.name) == json.loads(json.dumps(describe(recipe))), "python -m condetr.recipes.listing"


def test_the_listing_keeps_the_order_of_the_registry() -> None:
    assert [row["name"] for row in read()] == list(RECIPES)


def test_the_size_of_a_recipe_is_that_of_its_images() -> None:
    sized = {name: getattr(recipe.build().data.transform, "size_hw", None) for name, recipe in RECIPES.items()}
    assert {name: RECIPES[name].size_hw for name, size in sized.items() if size} == {
        name: size for name, size in sized.items() if size
    }
