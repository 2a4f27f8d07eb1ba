import json
import subprocess
import sys

from condetr.recipes.registry import RECIPES
from tests.cli.conftest import Command


def test_recipes_are_listed_with_their_cost_and_the_papers_result(condetr: Command) -> None:
    listed = {row["name"]: row for row in json.loads(condetr("recipes", "--json").out)}
    assert list(listed) == list(RECIPES)
    r50 = listed["conditional_detr_r50_50e"]
    assert (r50["detector"], r50["epochs"], r50["parameters"]) == ("conditional_detr", 50, 43_418_401)
    assert (r50["paper_ap"], r50["paper_parameters_millions"], r50["paper_multiply_adds_billions"]) == (0.409, 44, 90)
    assert listed["conditional_detr_tiny"]["paper_ap"] is None
    assert listed["conditional_detr_mobilenet"]["size_hw"] == [320, 320]


def test_the_table_of_recipes_fits_a_narrow_terminal(condetr: Command) -> None:
    ended = condetr("recipes")
    assert ended.code == 0
    assert all(name in ended.out for name in RECIPES)
    assert "0.430" in ended.out
    assert "…" not in ended.out
    assert max(len(line) for line in ended.out.splitlines()) <= 80


def test_recipes_are_listed_without_loading_torch() -> None:
    code = (
        "import sys; from condetr.cli.main import main; sys.argv = ['condetr', 'recipes']\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code\n"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
