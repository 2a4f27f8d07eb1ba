import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import condetr
from condetr.errors import InputError
from condetr.inference.detect import detect_batch
from condetr.inference.model_folder import LoadedModel, write_model
from condetr.inference.predictor import Predictor
from condetr.interop.loading import Source, find_source, read
from condetr.interop.official import write_official
from condetr.interop.transformers_folder import write_transformers
from condetr.labels import Category, LabelMap, Rows
from condetr.shapes import Detections


def every_pair(predictor: Predictor, image: np.ndarray) -> Detections:
    """Return the detections of every query under every class."""
    batch, label_map = predictor.make_batch([image]), predictor.label_map
    (found,) = detect_batch(predictor.detector, batch, label_map=label_map, device=predictor.device, limit=5 * 91)
    return found


@pytest.mark.parametrize("threshold", [None, 0.27])
def test_every_format_keeps_the_threshold(model: LoadedModel, threshold: float | None, tmp_path: Path) -> None:
    model = model._replace(threshold=threshold)
    write_model(tmp_path / "ours", model)
    write_official(tmp_path / "official.pth", model)
    (tmp_path / "transformers").mkdir()
    write_transformers(tmp_path / "transformers", model)

    for name in ("ours", "official.pth", "transformers"):
        assert condetr.load(tmp_path / name).own_threshold == threshold


def test_each_format_is_recognised_by_looking(ours: Path, official: Path, transformers: Path, tmp_path: Path) -> None:
    shutil.copytree(ours, tmp_path / "run" / "best")

    assert find_source(ours) == Source(ours, "condetr")
    assert find_source(ours / "model.safetensors") == Source(ours, "condetr")
    assert find_source(tmp_path / "run") == Source(tmp_path / "run" / "best", "condetr")
    assert find_source(official) == Source(official, "official")
    assert find_source(str(transformers)) == Source(transformers, "transformers")


def test_all_formats_detect_the_same(ours: Path, official: Path, transformers: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)

    first, second, third = (every_pair(condetr.load(weights), image) for weights in (ours, official, transformers))

    assert len(first) == 5 * 80
    for other in (second, third):
        np.testing.assert_array_equal(first.boxes_xyxy, other.boxes_xyxy)
        assert first.names == other.names


def test_rows_without_a_class_are_never_detected(model: LoadedModel, ours: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)

    found = every_pair(condetr.load(ours), image)

    assert len(found) == 5 * 80
    assert set(found.names) == set(model.label_map.names)


def test_a_label_map_takes_the_place_of_the_files(transformers: Path, ours: Path) -> None:
    label_map = LabelMap((Category(2, "bolt"),))

    for folder in (transformers, ours):
        model = read(find_source(folder), label_map=label_map)
        assert model.label_map == replace(label_map, rows=Rows((2,), 91))


@pytest.mark.parametrize("name", ["photo.jpg", "weights.h5", "last.ckpt"])
def test_another_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()

    with pytest.raises(InputError, match=rf"{name} is not an official checkpoint"):
        find_source(tmp_path / name)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds neither config\.json nor best/config\.json"):
        find_source(tmp_path)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        find_source(tmp_path / "nowhere")
