import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from condetr.data.recognise import recognise
from condetr.data.sources import open_data, open_split
from condetr.errors import InputError
from tests.unit.data.conftest import write_image, write_text

Folder = Callable[..., Path]


def add_split(folder: Path, name: str) -> None:
    (folder / "annotations" / f"{name}.json").write_text((folder / "annotations" / "train.json").read_text())


def test_a_wrong_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file or folder"):
        open_data(tmp_path / "nowhere")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty"):
        open_data(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", "package.json", "settings.yaml"])
def test_unknown_data_is_refused_with_what_was_looked_for(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"version": 1}))

    with pytest.raises(InputError, match=r"COCO .* Pascal VOC .* YOLO"):
        open_data(tmp_path)


def test_without_validation_split_a_part_of_training_is_held_out(coco_folder: Folder) -> None:
    folder = coco_folder()
    data = open_data(folder, val_fraction=0.4, seed=3)

    assert (len(data.train), len(data.val), data.val.name) == (2, 1, "train (held out)")
    assert {r.image_id for r in data.train.records} | {r.image_id for r in data.val.records} == {1, 2, 3}
    assert [finding.count for finding in data.findings if "held out" in finding.what] == [1]


def test_held_out_images_depend_on_the_seed_and_not_on_the_order_in_the_file(coco_folder: Folder) -> None:
    folder = coco_folder()
    file = folder / "annotations" / "train.json"
    content = json.loads(file.read_text())
    expected = [open_data(folder, seed=seed).val.records[0].image_id for seed in range(9)]
    file.write_text(json.dumps({**content, "images": content["images"][::-1]}))

    assert [open_data(folder, seed=seed).val.records[0].image_id for seed in range(9)] == expected
    assert len(set(expected)) > 1


def test_the_test_split_is_not_taken_for_validation_in_training(coco_folder: Folder) -> None:
    folder = coco_folder()
    add_split(folder, "test")

    assert open_data(folder).val.name == "train (held out)"


@pytest.mark.parametrize(("others", "expected"), [((), "train"), (("test",), "test"), (("test", "valid"), "valid")])
def test_evaluation_prefers_validation_to_test_to_the_only_split(
    coco_folder: Folder, others: tuple[str, ...], expected: str
) -> None:
    folder = coco_folder()
    for name in others:
        add_split(folder, name)

    assert open_split(folder).name == expected


def test_a_split_is_found_by_its_name_or_by_its_role(coco_folder: Folder) -> None:
    folder = coco_folder()
    add_split(folder, "instances_val2017")

    assert open_split(folder, split="val2017").name == open_split(folder, split="val").name == "val2017"


def test_a_missing_split_is_refused_with_those_that_are_there(coco_folder: Folder) -> None:
    folder = coco_folder()
    add_split(folder, "extra")

    complaint = re.escape("has no split 'tain'; it has: extra, train")
    with pytest.raises(InputError, match=complaint):
        open_data(folder, train_split="tain")
    with pytest.raises(InputError, match=complaint):
        open_data(folder, val_split="tain")


def test_several_splits_of_one_role_must_be_named(coco_folder: Folder) -> None:
    folder = coco_folder()
    add_split(folder, "val_a")
    add_split(folder, "val_b")

    with pytest.raises(InputError, match="several val splits, name the one to use: val_a, val_b"):
        open_data(folder)
    assert open_data(folder, val_split="val_b").val.name == "val_b"


def test_splits_without_a_known_role_must_be_named(coco_folder: Folder) -> None:
    folder = coco_folder()
    (folder / "annotations" / "train.json").rename(folder / "annotations" / "one.json")
    (folder / "annotations" / "two.json").write_text((folder / "annotations" / "one.json").read_text())

    with pytest.raises(InputError, match=r"no training split; .* name it with --train-split: one, two"):
        open_data(folder)
    with pytest.raises(InputError, match="several splits, name the one to use: one, two"):
        open_split(folder)


@pytest.mark.parametrize("name", ["valid", "test", "instances_val2017"])
def test_what_is_held_back_is_trained_on_only_where_that_is_said(coco_folder: Folder, name: str) -> None:
    folder = coco_folder()
    (folder / "annotations" / "train.json").rename(folder / "annotations" / f"{name}.json")

    with pytest.raises(InputError, match="has no training split"):
        open_data(folder)
    assert open_data(folder, train_split=name.removeprefix("instances_")).val.name.endswith("(held out)")


def test_notes_beside_yolo_data_are_not_taken_for_coco(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "1.png")
    write_text(tmp_path / "labels" / "1.txt", "0 0.5 0.5 0.2 0.2\n")
    write_text(tmp_path / "classes.txt", "RBC\n")
    write_text(tmp_path / "notes.json", '{"categories": [{"id": 0, "name": "RBC"}], "info": {"contributor": "x"}}')

    assert recognise(tmp_path).layout == "yolo"


def test_one_split_can_serve_for_both(coco_folder: Folder) -> None:
    data = open_data(coco_folder(), train_split="train", val_split="train")

    assert data.train == data.val


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5])
def test_a_fraction_that_leaves_one_side_empty_is_refused(coco_folder: Folder, fraction: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        open_data(coco_folder(), val_fraction=fraction)


def test_a_single_image_cannot_be_divided(coco_folder: Folder) -> None:
    with pytest.raises(InputError, match="too few to hold some out"):
        open_data(coco_folder(images=[{"id": 1, "file_name": "1.png"}]))
