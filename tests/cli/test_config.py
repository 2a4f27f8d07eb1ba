from pathlib import Path

import pytest
from ruamel.yaml import YAML

from condetr.recipes.registry import recipe
from tests.cli.conftest import Command


def test_config_show_prints_settings_that_yaml_reads(condetr: Command) -> None:
    ended = condetr("config", "show", "conditional_detr_tiny", "--set", "epochs=3", "--set", "detector.dim=64")
    settings = YAML(typ="safe").load(ended.out)
    assert ended.code == 0
    assert (settings["recipe"], settings["epochs"], settings["detector"]["dim"]) == ("conditional_detr_tiny", 3, 64)


@pytest.mark.parametrize("name", ["detr_tiny", "conditional_detr_mobilenet", "deformable_detr_r50_50e_2stage"])
def test_the_shown_settings_are_those_of_the_recipe(name: str, condetr: Command, tmp_path: Path) -> None:
    shown = tmp_path / "shown.yaml"
    shown.write_text(condetr("config", "show", name).out)
    assert recipe(str(shown)) == recipe(name)


def test_every_setting_is_shown_below_its_docstring_and_its_values(condetr: Command) -> None:
    shown = condetr("config", "show", "conditional_detr_r50_50e").out
    assert "# Epochs before the drop; a fraction falls inside an epoch.\n  drop_epoch: 40\n" in shown
    assert (
        "# The form of T (figure 5). One of diagonal, identity, scalar, block, full.\n  transformation: diag" in shown
    )
    assert "minutes: null\n" in shown
    assert max(map(len, shown.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["conditional_detr_tny"], "unknown recipe 'conditional_detr_tny'; did you mean 'conditional_detr_tiny'?"),
        (["detr_tiny", "--set", "epoch=3"], "unknown setting epoch; did you mean 'epochs'?"),
        (["detr_tiny", "--set", "epochs=three"], "epochs: input should be a valid integer"),
        (["detr_tiny", "--set", "epochs"], "a setting is given as path=value, got 'epochs'"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence_and_code_2(arguments: list[str], sentence: str, condetr: Command) -> None:
    ended = condetr("config", "show", *arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("condetr: ")
    assert sentence in ended.err
    assert ended.err.count("\n") == 1
