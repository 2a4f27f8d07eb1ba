import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from condetr.data.images import read_image
from condetr.data.sources import open_data
from condetr.errors import InputError
from condetr.scenes.draw import polygon_stamp
from condetr.scenes.shapes import SHAPES, write_scenes


def annotations(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((folder / "annotations" / f"{split}.json").read_text())["annotations"]
    return content


def test_scenes_open_as_coco_data_without_findings(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", num_images=30, val_images=10, seed=1, size=64)
    data = open_data(tmp_path / "scenes")

    assert (data.layout, len(data.train), len(data.val)) == ("coco", 30, 10)
    assert data.train.label_map.names == SHAPES
    assert data.train.records[0].size_hw == (64, 64)
    assert [finding for finding in data.findings if finding.severity != "info"] == []


def test_a_scene_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    write_scenes(tmp_path / "few", num_images=2, val_images=1, seed=5)
    write_scenes(tmp_path / "many", num_images=4, val_images=2, seed=5)
    write_scenes(tmp_path / "other", num_images=2, seed=6)

    for name in ("train_000000.jpg", "train_000001.jpg", "val_000000.jpg"):
        assert (tmp_path / "few/images" / name).read_bytes() == (tmp_path / "many/images" / name).read_bytes()
    first = (tmp_path / "few/images/train_000000.jpg").read_bytes()
    assert first != (tmp_path / "other/images/train_000000.jpg").read_bytes()
    assert first != (tmp_path / "few/images/val_000000.jpg").read_bytes()
    drawn = annotations(tmp_path / "few")
    assert drawn == annotations(tmp_path / "many")[: len(drawn)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_many_scenes_drawn_by_several_processes_are_those_that_one_draws(tmp_path: Path) -> None:
    write_scenes(tmp_path / "few", num_images=2, seed=5, size=32)
    write_scenes(tmp_path / "many", num_images=260, seed=5, size=32)

    for name in ("train_000000.jpg", "train_000001.jpg"):
        assert (tmp_path / "few/images" / name).read_bytes() == (tmp_path / "many/images" / name).read_bytes()
    drawn = annotations(tmp_path / "few")
    assert drawn == annotations(tmp_path / "many")[: len(drawn)]


def test_objects_lie_inside_at_the_promised_sizes(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", num_images=40, seed=2)
    boxes = np.array([thing["bbox"] for thing in annotations(tmp_path / "scenes")])
    areas = np.array([thing["area"] for thing in annotations(tmp_path / "scenes")])

    assert boxes[:, :2].min() >= 0
    assert (boxes[:, :2] + boxes[:, 2:]).max() <= 128
    assert boxes[:, 2:].max(axis=1).min() >= 0.035 * 128
    assert boxes[:, 2:].max() <= 0.38 * 128
    assert (areas <= boxes[:, 2:].prod(axis=1)).all()


def test_objects_hide_little_of_one_another(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", num_images=40, seed=3, size=64)
    for record in open_data(tmp_path / "scenes").train.records:
        for index, (x1, y1, x2, y2) in enumerate(record.boxes_xyxy):
            for a1, b1, a2, b2 in record.boxes_xyxy[:index]:
                shared = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
                assert shared <= 0.51 * min((x2 - x1) * (y2 - y1), (a2 - a1) * (b2 - b1))


def test_the_box_of_a_stamp_is_tight() -> None:
    diamond = np.array([[9.0, 0.0], [0.0, 5.0], [-9.0, 0.0], [0.0, -5.0]])
    stamp = polygon_stamp(diamond)
    x1, y1, x2, y2 = stamp.box_xyxy

    assert (x2 - x1, y2 - y1) == pytest.approx((18, 10), abs=0.6)
    assert stamp.area == pytest.approx(90, rel=0.05)
    assert stamp.alpha.sum() == pytest.approx(90, rel=0.05)


def test_a_folder_with_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(InputError, match="not an empty folder"):
        write_scenes(tmp_path, num_images=1, seed=0)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    write_scenes(tmp_path, num_images=1, seed=0)

    assert read_image(tmp_path / "images" / "train_000000.jpg").shape == (3, 128, 128)


@pytest.mark.parametrize(("num_images", "val_images", "size"), [(0, 0, 64), (1, -1, 64), (1, 0, 5)])
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, num_images: int, val_images: int, size: int) -> None:
    with pytest.raises(InputError):
        write_scenes(tmp_path / "scenes", seed=0, num_images=num_images, val_images=val_images, size=size)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "scenes", num_images=3, seed=0, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_up_to_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_scenes(tmp_path / "a", num_images=2, val_images=1, seed=0, progress=lambda *call: calls.append(call))

    assert calls == [(1, 3), (2, 3), (3, 3)]
