"""Image files whose names are not UTF-8, as old archives leave them, are used like any other."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condetr.data.sources import open_split
from tests.cli.conftest import Command, Train

NAME = os.fsdecode(b"k\xe4fer.png")
SHOWN = r"k\udce4fer.png"


@pytest.fixture
def beetles(tmp_path: Path) -> Path:
    """A YOLO data set of a training and a validation image, each with a box that overhangs."""
    for number, split in enumerate(("train", "val")):
        for folder in ("images", "labels"):
            (tmp_path / "beetles" / folder / split).mkdir(parents=True)
        image = tmp_path / "beetles" / "images" / split / NAME
        try:
            Image.fromarray(np.full((32, 32, 3), 60 * number, dtype=np.uint8)).save(image)
        except OSError:
            pytest.skip("this file system has no such names")
        label = tmp_path / "beetles" / "labels" / split / NAME
        label.with_suffix(".txt").write_text("0 0.9 0.5 0.4 0.4\n")
    (tmp_path / "beetles" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [beetle]\n")
    return tmp_path / "beetles"


def test_a_training_ends_with_its_report(train: Train, beetles: Path, run: Path) -> None:
    ended = train(beetles, "--set", "data.batch_size=1")

    assert ended.code in (0, None), ended.err
    assert SHOWN in (run / "report.html").read_text(encoding="utf-8")
    (finding,) = json.loads((run / "results.json").read_text(encoding="utf-8"))["findings"]
    assert SHOWN in finding["examples"][0]


def test_detections_lead_back_to_the_images(train: Train, condetr: Command, beetles: Path, run: Path) -> None:
    train(beetles, "--set", "data.batch_size=1")
    ended = condetr("predict", run, beetles, "--out", run / "found")

    assert ended.code in (0, None), ended.err
    content = json.loads((run / "found" / "detections.json").read_text(encoding="utf-8"))
    assert all(Path(image["file_name"]).is_file() for image in content["images"])
    assert len(list((run / "found" / "pictures").iterdir())) == 2


def test_the_doctor_names_and_cleans_them(condetr: Command, beetles: Path, tmp_path: Path) -> None:
    ended = condetr("doctor", beetles, "--json", "--fix", tmp_path / "clean")

    assert ended.code == 0, ended.err
    assert any(SHOWN in place for finding in json.loads(ended.out)["findings"] for place in finding["examples"])
    assert SHOWN in (tmp_path / "clean" / "cleaning.txt").read_text(encoding="utf-8")
    assert len(open_split(tmp_path / "clean")) == 1


def test_a_sentence_about_the_data_folder_can_be_printed(condetr: Command, beetles: Path) -> None:
    folder = beetles.rename(beetles.with_name(NAME))

    ended = condetr("doctor", folder)
    assert ended.code == 0, ended.err
    assert SHOWN in ended.out
