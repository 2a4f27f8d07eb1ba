"""A run is not measured unawares on images that it trained on."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condetr.api import evaluate
from condetr.cli.main import main
from condetr.errors import InputWarning
from tests.cli.conftest import TINY, Command, coco_file, write_coco


def write_whole(folder: Path, *, first: int = 1, last: int = 10, noise: int = 0) -> Path:
    """Write a data set of one split; the noise makes images that differ."""
    write_coco(folder, split="all", content=coco_file(first_image=first, num_images=last - first + 1))
    for number in range(first, last + 1):
        pixels = np.random.default_rng(100 * noise + number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "all" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set `whole` and the run `run`, which held out three of ten images."""
    folder = tmp_path_factory.mktemp("held_out")
    data = write_whole(folder / "whole")
    settings = [part for setting in TINY for part in ("--set", setting)]
    arguments = ["train", "conditional_detr_tiny", "--data", data, "--val-fraction", "0.3", "--out", folder / "run"]
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*map(str, arguments), *settings])
    return folder


def measured(condetr: Command, weights: Path, data: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Return what `evaluate` finds, and its first line."""
    found, told = (condetr("evaluate", weights, "--data", data, *arguments, *more) for more in (["--json"], []))
    assert (found.code, told.code) == (0, 0), told.err
    return json.loads(found.out), told.out.splitlines()[1]  # after what was understood of the data


def held_out(run: Path) -> list[str]:
    return [Path(name).name for name in json.loads((run / "images.json").read_text())["validation"]]


@pytest.mark.parametrize("weights", ["run", "run/best"])
@pytest.mark.parametrize("has_moved", [True, False])
def test_a_run_is_measured_on_what_it_held_out(
    weights: str, trained: Path, condetr: Command, tmp_path: Path, *, has_moved: bool
) -> None:
    data = Path(shutil.copytree(trained / "whole", tmp_path / "moved")) if has_moved else trained / "whole"
    found, title = measured(condetr, trained / weights, data)
    expected = json.loads((trained / "run" / "results.json").read_text())
    assert [found[name] for name in ("AP", "AR_100", "split")] == [expected[name] for name in ("AP", "AR_100", "split")]
    assert (found["split"], found["images"], found["images_trained_on"]) == ("all (held out)", 3, 0)
    assert title == f"{trained / weights} on all (held out) of {data}, 3 images"


def test_a_file_of_the_data_means_the_same(trained: Path, condetr: Command) -> None:
    found, _ = measured(condetr, trained / "run", trained / "whole" / "annotations" / "all.json")
    assert (found["split"], found["images"]) == ("all (held out)", 3)


def test_images_that_a_run_trained_on_are_spoken_of(trained: Path, condetr: Command) -> None:
    found, title = measured(condetr, trained / "run", trained / "whole", "--split", "all")
    assert (found["split"], found["images"], found["images_trained_on"]) == ("all", 10, 7)
    assert title.endswith("on all of " + str(trained / "whole") + ", 10 images, of which the run trained on 7")
    with pytest.warns(InputWarning, match="10 images, of which the run trained on 7"):
        evaluate(trained / "run", trained / "whole", split="all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(trained / "run", trained / "whole")


def without(trained: Path, folder: Path, names: list[str]) -> Path:
    """Copy the data set without some images."""
    data = Path(shutil.copytree(trained / "whole", folder / "fewer"))
    content = json.loads((data / "annotations" / "all.json").read_text())
    gone = {image["id"] for image in content["images"] if image["file_name"] in names}
    for part, key in (("images", "id"), ("annotations", "image_id")):
        content[part] = [each for each in content[part] if each[key] not in gone]
    (data / "annotations" / "all.json").write_text(json.dumps(content))
    return data


def test_some_of_the_images_that_were_held_out_are_enough(trained: Path, condetr: Command, tmp_path: Path) -> None:
    data = without(trained, tmp_path, held_out(trained / "run")[:1])
    found, title = measured(condetr, trained / "run", data)
    assert (found["split"], found["images"], found["images_trained_on"]) == ("all (held out)", 2, 0)
    assert title.endswith("2 images of the 3 that the run held out")


def test_where_none_of_them_is_there_all_are_taken_and_that_is_said(
    trained: Path, condetr: Command, tmp_path: Path
) -> None:
    data = without(trained, tmp_path, held_out(trained / "run"))
    found, title = measured(condetr, trained / "run", data)
    assert (found["split"], found["images"], found["images_trained_on"]) == ("all", 7, 7)
    assert title.endswith("7 images, all of which the run trained on")


def test_images_that_came_later_were_not_trained_on(trained: Path, condetr: Command, tmp_path: Path) -> None:
    data = write_whole(tmp_path / "more", last=12)
    found, _ = measured(condetr, trained / "run", data)
    assert (found["split"], found["images"], found["images_trained_on"]) == ("all (not trained on)", 5, 0)


def test_other_data_with_the_same_names_is_other_data(trained: Path, condetr: Command, tmp_path: Path) -> None:
    data = write_whole(tmp_path / "whole", noise=1)
    found, title = measured(condetr, trained / "run", data)
    assert (found["split"], found["images"], found["images_trained_on"]) == ("all", 10, 0)
    assert title.endswith("10 images")


def test_weights_that_do_not_say_are_measured_on_all(trained: Path, condetr: Command, tmp_path: Path) -> None:
    model = Path(shutil.copytree(trained / "run" / "best", tmp_path / "model"))
    found, title = measured(condetr, model, trained / "whole")
    assert (found["split"], found["images"], found["images_trained_on"]) == ("all", 10, None)
    assert title.endswith("10 images")


def test_a_damaged_record_is_refused(trained: Path, condetr: Command, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained / "run", tmp_path / "run"))
    (run / "images.json").write_text("[]")
    ended = condetr("evaluate", run, "--data", trained / "whole")
    assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1)
    assert "images.json cannot be read" in ended.err


def test_the_report_says_what_was_measured_on(trained: Path) -> None:
    assert "measured on <b>all (held out)</b>" in (trained / "run" / "report.html").read_text()
