"""The verbs of the README, one after the other on one small data set."""

import json
import shutil
from pathlib import Path

import pytest

from condetr.api import evaluate
from condetr.cli.main import main
from condetr.metrics.matches import Matches
from tests.cli.conftest import TINY, Command


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the data set `shapes` and the run `run`."""
    folder = tmp_path_factory.mktemp("verbs")
    settings = [part for setting in TINY for part in ("--set", setting)]
    for arguments in (
        ["synth", folder / "shapes", "--images", 4, "--val-images", 2, "--size", 32],
        ["train", "conditional_detr_tiny", "--data", folder / "shapes", "--out", folder / "run", *settings],
    ):
        with pytest.raises(SystemExit, match=r"^0$"):
            main([str(argument) for argument in arguments])
    return folder


def test_a_run_folder_holds_what_the_documentation_lists(trained: Path) -> None:
    names = {path.relative_to(trained / "run").as_posix() for path in (trained / "run").rglob("*") if path.is_file()}
    files = "config.yaml labels.json images.json first_batch.jpg metrics.csv timing.csv results.json predictions.json"
    models = "best/model.safetensors best/config.json checkpoints/last.ckpt"
    pages = {name for name in names if name.startswith("explorer/")}  # where there is something to explain
    assert names - pages == {*files.split(), "report.html", *models.split()}
    assert pages <= {f"explorer/{kind}-{number}.html" for kind in ("best", "worst") for number in (1, 2)}


def test_the_settings_of_a_run_are_a_recipe(trained: Path, condetr: Command) -> None:
    ended = condetr("config", "show", trained / "run" / "config.yaml", "--set", "epochs=2")
    assert ended.code == 0
    assert "epochs: 2\n" in ended.out


def test_evaluate_finds_the_numbers_of_the_training_again(trained: Path, condetr: Command, tmp_path: Path) -> None:
    ended = condetr("evaluate", trained / "run", "--data", trained / "shapes", "--out", tmp_path / "x", "--matches")
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "x" / "results.json").read_text())
    trained_results = json.loads((trained / "run" / "results.json").read_text())
    assert found["AP"] == trained_results["AP"]
    assert found["AR_100"] == trained_results["AR_100"]
    assert Matches.load(tmp_path / "x" / "matches.npz").ap() == pytest.approx(found["AP"])
    assert f"AP {found['AP']:.3f}   AP50 {found['AP50']:.3f}" in ended.out


def test_matches_need_a_folder(trained: Path, condetr: Command) -> None:
    ended = condetr("evaluate", trained / "run", "--data", trained / "shapes", "--matches")
    assert (ended.code, ended.err) == (2, "condetr: --matches writes a file: name its folder with --out\n")


def edited_shapes(trained: Path, folder: Path, **changes: object) -> Path:
    """Copy the data set, with other lists in the validation file."""
    copy = Path(shutil.copytree(trained / "shapes", folder / "shapes"))
    (file,) = (copy / "annotations").glob("*val*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return copy


def test_a_validation_file_need_not_list_every_class_that_was_trained_on(
    trained: Path, condetr: Command, tmp_path: Path
) -> None:
    last = json.loads((trained / "run" / "labels.json").read_text())[-1]
    only = {"id": last["dataset_id"], "name": last["name"]}
    box = {"id": 1, "image_id": 1, "category_id": only["id"], "bbox": [1, 1, 9, 9]}
    fewer = edited_shapes(trained, tmp_path, categories=[only], annotations=[box])
    ended = condetr("evaluate", trained / "run", "--data", fewer, "--out", tmp_path / "x")
    assert ended.code == 0, ended.err
    rows = json.loads((tmp_path / "x" / "results.json").read_text())["per_class"]
    assert [(row["name"], row["boxes"]) for row in rows if row["boxes"]] == [(only["name"], 1)]


def test_evaluate_leaves_broken_images_out_only_where_that_is_asked_for(
    trained: Path, condetr: Command, tmp_path: Path
) -> None:
    data = edited_shapes(trained, tmp_path)
    next((data / "images").glob("val_*")).write_bytes(b"broken")
    assert condetr("evaluate", trained / "run", "--data", data).code == 2
    ended = condetr("evaluate", trained / "run", "--data", data, "--skip-unreadable")
    assert ended.code == 0, ended.err
    assert "warning: 1 image missing or unreadable, left out" in ended.err


def test_evaluate_in_python_finds_the_same(trained: Path) -> None:
    results = evaluate(trained / "run", trained / "shapes")
    written = json.loads((trained / "run" / "results.json").read_text())
    assert results.to_dict() == {name: written[name] for name in results.to_dict()}


def test_predict_writes_pictures_and_detections(trained: Path, condetr: Command, tmp_path: Path) -> None:
    ended = condetr("predict", trained / "run", trained / "shapes" / "images", "--out", tmp_path / "found")
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / "found" / "pictures").iterdir())) == 6
    assert len(json.loads((tmp_path / "found" / "detections.json").read_text())["images"]) == 6


def test_a_run_is_not_resumed_with_other_settings(trained: Path, condetr: Command) -> None:
    before = (trained / "run" / "checkpoints" / "last.ckpt").read_bytes()
    settings = [part for setting in TINY for part in ("--set", setting)]
    ended = condetr(
        "train", "conditional_detr_tiny", "--data", trained / "shapes", "--out", trained / "run", *settings,
        "--resume", "auto", "--set", "detector.dim=16",
    )  # fmt: skip
    assert ended.code == 2
    assert "detector.dim (it was 8, now 16)" in ended.err
    assert (trained / "run" / "checkpoints" / "last.ckpt").read_bytes() == before


def test_the_demonstration_trains_and_predicts_on_scenes_written_before(
    trained: Path, condetr: Command, tmp_path: Path
) -> None:
    settings = [part for setting in TINY for part in ("--set", setting)]
    ended = condetr("demo", "--data", trained / "shapes", "--out", tmp_path / "demo", *settings)
    assert ended.code == 0, ended.err
    assert (tmp_path / "demo" / "report.html").is_file()
    assert len(list((tmp_path / "demo" / "predictions" / "pictures").iterdir())) == 2
    assert (tmp_path / "demo" / "attention" / "explanation.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "{none}", "--data", "{shapes}"], "{none} does not exist"),
        (["evaluate", "{shapes}", "--data", "{shapes}"], "{shapes} holds neither config.json nor best/config.json"),
        (["evaluate", "{run}", "--data", "{none}"], "there is no file or folder {none}"),
        (["evaluate", "{run}", "--data", "{shapes}", "--split", "tset"], "has no split 'tset'; it has: train, val"),
        (["predict", "{none}", "{shapes}", "--out", "{out}"], "{none} does not exist"),
        (["predict", "{run}", "{none}", "--out", "{out}"], "{none}"),
        (["predict", "{run}", "{run}/config.yaml", "--out", "{out}"], "config.yaml"),
    ],
)
def test_weights_and_sources_that_cannot_be_used_are_refused(
    arguments: list[str], sentence: str, trained: Path, condetr: Command, tmp_path: Path
) -> None:
    paths = {"none": tmp_path / "none", "run": trained / "run", "shapes": trained / "shapes", "out": tmp_path / "out"}
    ended = condetr(*(argument.format(**paths) for argument in arguments))
    assert ended.code == 2
    assert sentence.format(**paths) in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
