"""What the doctor recommends works, on every kind of data; a training without a recipe takes it."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from condetr.config import load
from condetr.data.transforms import LightTransformConfig
from condetr.doctor import start
from condetr.doctor.start import COCO, choose_start
from condetr.engine.config import TrainConfig
from tests.cli.conftest import TINY, Command
from tests.layouts import coco, label, picture, text, xml

SMALL = [part for setting in TINY if "batch_size" not in setting for part in ("--set", setting)]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the hub be out of reach, and no weights lie in the current folder."""
    monkeypatch.setattr(start, "can_be_had", lambda hub_id: False)
    monkeypatch.chdir(tmp_path)


def voc(folder: Path) -> None:
    for name in "abcd":
        xml(folder / "label" / f"{name}.xml")
        picture(folder / "image" / f"{name}.jpg")


def coco_json(folder: Path) -> None:
    for split in ("train", "val"):
        for name in "abcd":
            picture(folder / split / f"{name}.jpg")
        coco(folder / f"{split}.json", *(f"{name}.jpg" for name in "abcd"))


def yolo(folder: Path) -> None:
    for name in "abcd":
        label(folder / f"{name}.txt")
        picture(folder / f"{name}.jpg")


def table(folder: Path) -> None:
    for name in "abcd":
        picture(folder / f"{name}.jpg")
    text(folder / "boxes.csv", "".join(f"{name}.jpg,4,5,24,15,cat\n" for name in "abcd"))


def missing_image(folder: Path) -> None:
    voc(folder)
    (folder / "image" / "a.jpg").unlink()


def faulty_box(folder: Path) -> None:
    voc(folder)
    file = folder / "label" / "a.xml"
    file.write_text(file.read_text().replace("<xmin>5<", "<xmin>left<"))


def faulty_row(folder: Path) -> None:
    table(folder)
    text(folder / "boxes.csv", (folder / "boxes.csv").read_text() + "a.jpg,1,2,x,4,cat\n")


def faulty_line(folder: Path) -> None:
    yolo(folder)
    (folder / "a.txt").write_text("0 .5 .5 .2 .2 .9\n")


def faulty_entry(folder: Path) -> None:
    coco_json(folder)
    content = json.loads((folder / "train.json").read_text())
    content["annotations"][0]["bbox"] = [1, 2, 3]
    (folder / "train.json").write_text(json.dumps(content))


def damaged_pixels(folder: Path) -> None:
    coco_json(folder)
    content = bytearray(Image.effect_noise((64, 48), 90).tobytes())
    path = folder / "train" / "a.jpg"
    Image.frombytes("L", (64, 48), bytes(content)).save(path, format="PNG")
    damaged = bytearray(path.read_bytes())
    damaged[100:1500] = bytes(1400)
    path.write_bytes(damaged)


def one_image(folder: Path) -> None:
    label(folder / "a.txt")
    picture(folder / "a.jpg")


KINDS = (voc, coco_json, yolo, table, missing_image, faulty_box, faulty_row, faulty_line, faulty_entry, damaged_pixels)


def examined(condetr: Command, data: Path) -> dict[str, Any]:
    ended = condetr("doctor", data, "--json")
    assert ended.code in (0, 1), ended.err
    report: dict[str, Any] = json.loads(ended.out)
    return report


@pytest.mark.parametrize(("make", "file"), [(faulty_row, "boxes.csv"), (faulty_entry, "train.json")])
def test_a_cleaned_copy_of_a_file_lies_outside_the_data_and_trains(
    make: Callable[[Path], None], file: str, condetr: Command, tmp_path: Path
) -> None:
    make(tmp_path / "my data")
    report = examined(condetr, tmp_path / "my data" / file)

    assert condetr(*shlex.split(report["first"])[1:]).code in (0, 1)
    trained = condetr(*shlex.split(report["command"])[1:], "--out", tmp_path / "run", *SMALL)

    assert trained.code == 0, trained.err
    assert not [path for path in (tmp_path / "my data").rglob("*") if "cleaned" in path.name]


def test_a_copy_inside_the_data_holds_no_link_to_itself(condetr: Command, tmp_path: Path) -> None:
    voc(tmp_path / "data")
    assert condetr("doctor", tmp_path / "data", "--fix", "data/copy").code == 0

    assert not [path for path in (tmp_path / "data" / "copy").rglob("*") if not path.exists()]


@pytest.mark.parametrize("make", [*KINDS, one_image])
def test_the_recommended_commands_work(make: Callable[[Path], None], condetr: Command, tmp_path: Path) -> None:
    make(tmp_path / "my data")
    report = examined(condetr, tmp_path / "my data")

    if report["first"] is not None:
        cleaning = condetr(*shlex.split(report["first"])[1:])
        assert cleaning.code in (0, 1), cleaning.err
    trained = condetr(*shlex.split(report["command"])[1:], "--out", tmp_path / "run", *SMALL)

    assert trained.code == 0, trained.err
    assert (tmp_path / "run" / "results.json").is_file()


@pytest.mark.parametrize(
    ("make", "needs_cleaning"),
    [(voc, False), (missing_image, False), (faulty_box, True), (faulty_row, True), (damaged_pixels, True)],
)
def test_cleaning_comes_first_only_where_a_training_would_refuse(
    make: Callable[[Path], None], needs_cleaning: object, condetr: Command, tmp_path: Path
) -> None:
    make(tmp_path / "data")
    report = examined(condetr, tmp_path / "data")

    assert (report["first"] is not None) == needs_cleaning
    assert ("data.skip_unreadable=true" in report["command"]) == (make is missing_image)


def test_the_copy_of_the_current_folder_lies_beside_it(
    condetr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_box(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")

    assert examined(condetr, Path())["first"] == f"condetr doctor . --fix {tmp_path / 'data-cleaned'}"


def test_what_only_a_person_can_decide_gets_no_command(condetr: Command, tmp_path: Path) -> None:
    coco_json(tmp_path / "data")
    content = json.loads((tmp_path / "data" / "val.json").read_text())
    content["categories"][0]["name"] = "dog"
    (tmp_path / "data" / "val.json").write_text(json.dumps(content))
    report = examined(condetr, tmp_path / "data")

    assert report["command"] is None
    assert "fix this first, as only you can tell what is right: the splits disagree" in report["instead"]


def test_a_set_without_any_image_gets_no_command(condetr: Command, tmp_path: Path) -> None:
    coco_json(tmp_path / "data")
    for split in ("train", "val"):
        for name in "abcd":
            (tmp_path / "data" / split / f"{name}.jpg").unlink()
    report = examined(condetr, tmp_path / "data")

    assert report["command"] is None
    assert "are not there" in report["instead"]


def test_images_that_are_fitted_into_one_size_are_not_grouped_by_their_aspect(condetr: Command, tmp_path: Path) -> None:
    yolo(tmp_path / "data")
    for name in "ab":
        Image.new("RGB", (48, 64), (9, 99, 9)).save(tmp_path / "data" / f"{name}.jpg")

    assert "group_by_aspect" not in examined(condetr, tmp_path / "data")["command"]


class TestStart:
    def test_few_images_begin_with_weights_of_coco_where_the_hub_answers(self) -> None:
        begun = choose_start(100, reach=lambda hub_id: True)

        assert (begun.recipe, begun.options["init_from"].value) == ("conditional_detr_r50_50e", COCO)

    def test_weights_of_a_backbone_in_the_current_folder_are_next(self, tmp_path: Path) -> None:
        (tmp_path / "mobilenetv2_100.safetensors").touch()
        begun = choose_start(100, reach=lambda hub_id: False)

        assert begun.recipe == "conditional_detr_mobilenet"
        assert begun.options["detector.backbone.weights"].value == "mobilenetv2_100.safetensors"

    def test_many_images_begin_with_a_backbone_from_the_hub(self) -> None:
        begun = choose_start(3000, reach=lambda hub_id: True)

        assert (begun.recipe, begun.options["epochs"].value) == ("conditional_detr_mobilenet", "50")

    def test_fresh_weights_come_last_and_the_reason_says_what_would_be_better(self) -> None:
        begun = choose_start(100, reach=lambda hub_id: False)

        assert begun.recipe == "conditional_detr_tiny"
        assert "fresh weights, as no pretrained ones are here and the hub cannot be reached" in begun.reason
        assert f"--init-from {COCO}" in begun.reason


class TestTrainingWithoutARecipe:
    def test_it_takes_the_advice_and_shows_it(self, condetr: Command, tmp_path: Path) -> None:
        voc(tmp_path / "cats")
        ended = condetr("train", "--data", tmp_path / "cats", *SMALL)

        assert ended.code == 0, ended.err
        lines = ended.out.splitlines()
        assert lines[0] == "Pascal VOC: 4 XML in label/, their images in image/; no split"
        assert "condetr train conditional_detr_tiny --data" in ended.out
        transform = load(TrainConfig, tmp_path / "runs" / "cats" / "config.yaml").data.transform
        assert isinstance(transform, LightTransformConfig)
        assert transform.size_hw == (256, 256)

    def test_short_options_are_settings(self, condetr: Command, tmp_path: Path) -> None:
        voc(tmp_path / "cats")
        short = ("--epochs", 1, "--batch-size", 3, "--lr", "2e-4", "--device", "cpu")
        ended = condetr("train", "--data", tmp_path / "cats", *SMALL, *short)

        assert ended.code == 0, ended.err
        used = load(TrainConfig, tmp_path / "runs" / "cats" / "config.yaml")
        assert (used.epochs, used.data.batch_size, used.optimizer.lr) == (1, 3, 2e-4)

    def test_a_stopped_run_goes_on_with_its_own_settings(
        self, condetr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        voc(tmp_path / "cats")
        assert condetr("train", "--data", tmp_path / "cats", *SMALL).code == 0
        monkeypatch.setattr(start, "can_be_had", lambda hub_id: True)  # then other advice would be given
        ended = condetr("train", "--data", tmp_path / "cats", "--resume", "auto", "--epochs", 2)

        assert ended.code == 0, ended.err

    def test_what_is_wrong_is_said_with_what_the_doctor_can_do(self, condetr: Command, tmp_path: Path) -> None:
        faulty_box(tmp_path / "cats")
        ended = condetr("train", "--data", tmp_path / "cats")

        assert (ended.code, ended.err.count("\n")) == (2, 1)
        assert "object 1 has xmin 'left', expected a finite number; `condetr doctor " in ended.err
        assert "with --fix OUT writes a copy without it" in ended.err

    def test_data_that_cannot_be_trained_on_is_refused(self, condetr: Command, tmp_path: Path) -> None:
        text(tmp_path / "cats" / "a.csv", "filename,class,xmin,ymin,xmax,ymax\nno.jpg,cat,1,2,3,4\n")
        picture(tmp_path / "cats" / "a.jpg")
        ended = condetr("train", "--data", tmp_path / "cats")

        assert (ended.code, ended.err.count("\n")) == (2, 1)
