import json
import sys

import pytest

from condetr.recipes.cost import cost_of
from condetr.recipes.registry import RECIPES
from tests.cli.conftest import Command


def test_recipes_are_listed_with_their_cost_and_the_papers_result(condetr: Command) -> None:
    listed = {row["name"]: row for row in json.loads(condetr("recipes", "--json").out)}
    assert list(listed) == list(RECIPES)
    r50 = listed["conditional_detr_r50_50e"]
    assert (r50["detector"], r50["epochs"], r50["parameters"]) == ("conditional_detr", 50, 43_418_401)
    assert r50["paper_ap"] == 0.409
    assert listed["conditional_detr_tiny"]["paper_ap"] is None


def test_the_table_of_recipes_fits_a_narrow_terminal(condetr: Command) -> None:
    ended = condetr("recipes")
    assert ended.code == 0
    assert all(name in ended.out for name in RECIPES)
    assert "0.430" in ended.out
    assert "…" not in ended.out
    assert "not installed" not in ended.out
    assert max(len(line) for line in ended.out.splitlines()) <= 80


def test_recipes_are_listed_without_timm(condetr: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    cost_of.cache_clear()
    listed = {row["name"]: row for row in json.loads(condetr("recipes", "--json").out)}
    assert list(listed) == list(RECIPES)
    assert listed["conditional_detr_mobilenet"]["parameters"] is None
    assert listed["conditional_detr_tiny"]["parameters"] > 0
    assert "-: timm is not installed" in " ".join(condetr("recipes").out.split())
