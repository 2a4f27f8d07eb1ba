from pathlib import Path

import pytest

import condetr
from condetr.config import to_yaml
from condetr.errors import InputError
from condetr.recipes.registry import recipe


def test_a_recipe_is_changed_as_by_set() -> None:
    settings = recipe("conditional_detr_tiny", "data.path=shapes", "epochs=3", "optimizer.lr=2e-4")
    assert (settings.recipe, settings.data.path, settings.epochs) == ("conditional_detr_tiny", "shapes", 3)
    assert settings.optimizer.lr == pytest.approx(2e-4)


def test_a_file_of_settings_is_a_recipe(tmp_path: Path) -> None:
    settings = recipe("detr_tiny", "epochs=3")
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(settings))
    assert recipe(str(path)) == settings


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("conditional_detr_tinny",), "did you mean 'conditional_detr_tiny'"),
        (("conditional_detr_tiny", "epoch=3"), "^unknown setting epoch; did you mean 'epochs'"),
        (("conditional_detr_tiny", "lr=1e-4"), "^unknown setting lr; did you mean 'optimizer.lr'"),
        (("conditional_detr_tiny", "batch_size=4"), "did you mean 'data.batch_size'"),
        (("conditional_detr_tiny", "data.num_queries=4"), "did you mean 'detector.num_queries'"),
        (("conditional_detr_tiny", "dilation=true"), "did you mean 'detector.backbone.dilation'"),
        (("conditional_detr_tiny", "epochs"), "epochs"),
    ],
)
def test_what_does_not_exist_is_named(arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        recipe(*arguments)


def test_a_name_alone_is_not_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data to train on"):
        condetr.train("conditional_detr_tiny", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
