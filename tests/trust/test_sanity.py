from math import nan
from pathlib import Path

import pytest
from PIL import Image

from condetr.engine.overfit import verdict
from tests.cli.conftest import Command

SMALL = ("--set", "data.transform.size_hw=[64,64]", "--images", 2)


def test_a_sound_data_set_is_overfit(condetr: Command, scenes: Path, tmp_path: Path) -> None:
    ended = condetr("sanity", scenes, *SMALL, "--steps", 200, "--out", tmp_path / "out")
    assert ended.code == 0, ended.out
    assert "the batch was overfitted: labels, boxes and settings are sound" in ended.out
    pictures = list((tmp_path / "out").iterdir())
    assert len(pictures) == 2
    with Image.open(pictures[0]) as picture:
        assert picture.width > picture.height


def test_what_is_not_learnt_ends_with_code_1_and_advice(condetr: Command, scenes: Path) -> None:
    ended = condetr("sanity", scenes, *SMALL, "--steps", 2)
    assert ended.code == 1
    assert "the loss hardly fell" in ended.out


@pytest.mark.parametrize(
    ("losses", "ap50", "words"),
    [
        ([9.0, nan], 0.0, "became nan at step 2: optimizer.lr is too large"),
        ([9.0, 8.0], 0.0, "hardly fell (9 to 8)"),
        ([9.0, 1.0], 0.3, "was not overfitted"),
        ([9.0, 1.0], 0.9, "are sound"),
    ],
)
def test_the_verdict_fits_losses_and_ap(losses: list[float], ap50: float, words: str) -> None:
    assert words in verdict(losses, ap50=ap50)
