"""Bad input ends `condetr train` with code 2 and one sentence, before anything is written."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.conftest import Coco, Command, Ended, Train, coco_file, write_coco


def assert_refused(ended: Ended, sentence: str, *, run: Path) -> None:
    """Check that a command ended with one line and left nothing behind."""
    assert ended.code == 2
    assert sentence in ended.err
    assert ended.err.startswith("condetr: ")
    assert ended.err.count("\n") == 1
    assert not run.exists()


def change(data: Path, edit: Callable[[Coco], object], *, split: str = "train") -> None:
    path = data / "annotations" / f"{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_good_input_is_trained_on(train: Train, data: Path, run: Path) -> None:
    ended = train(data)
    assert ended.code == 0, ended.err
    assert (run / "results.json").is_file()
    assert (run / "best" / "model.safetensors").is_file()


class TestPaths:
    def test_a_path_that_does_not_exist(self, train: Train, tmp_path: Path, run: Path) -> None:
        assert_refused(train(tmp_path / "nowhere"), f"there is no file or folder {tmp_path / 'nowhere'}", run=run)

    def test_an_empty_folder(self, train: Train, tmp_path: Path, run: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert_refused(train(tmp_path / "empty"), f"the folder {tmp_path / 'empty'} is empty", run=run)

    def test_an_output_folder_that_cannot_be_written(self, train: Train, data: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        below_a_file = tmp_path / "file" / "run"
        assert_refused(train(data, out=below_a_file), f"cannot write to {below_a_file}", run=below_a_file)

    def test_an_existing_run_folder(self, train: Train, data: Path, run: Path) -> None:
        run.mkdir()
        (run / "results.json").write_text("precious")
        ended = train(data)
        assert ended.code == 2
        assert f"{run} exists and is not empty" in ended.err
        assert [path.name for path in run.iterdir()] == ["results.json"]
        assert (run / "results.json").read_text() == "precious"


class TestImages:
    def test_an_image_that_is_none(self, train: Train, data: Path, run: Path) -> None:
        (data / "train" / "2.png").write_text("not an image")
        assert_refused(train(data), "2.png", run=run)

    def test_a_truncated_image(self, train: Train, data: Path, run: Path) -> None:
        cut_in_half(data / "train" / "2.png")
        assert_refused(train(data), "2.png", run=run)

    def test_an_image_that_is_missing(self, train: Train, data: Path, run: Path) -> None:
        (data / "train" / "2.png").unlink()
        assert_refused(train(data), "2.png", run=run)

    def test_a_file_name_that_leaves_the_data_folder(self, train: Train, data: Path, run: Path) -> None:
        change(data, lambda coco: coco["images"][1].update(file_name="../../../secret.png"))
        assert_refused(train(data), "'../../../secret.png' leads out of the data folder", run=run)

    def test_fewer_images_than_a_batch(self, train: Train, data: Path, run: Path) -> None:
        ended = train(data, "--set", "data.batch_size=8")
        assert_refused(ended, "'train' has 4 images, fewer than one batch of 8", run=run)


class TestAnnotations:
    def test_json_that_is_not_coco(self, train: Train, data: Path, run: Path) -> None:
        (data / "annotations" / "train.json").write_text('{"pictures": []}')
        assert_refused(train(data), "train.json is not a COCO file", run=run)

    def test_json_that_is_not_even_json(self, train: Train, data: Path, run: Path) -> None:
        cut_in_half(data / "annotations" / "train.json")
        assert_refused(train(data), "train.json is not JSON", run=run)

    def test_a_category_without_a_name(self, train: Train, data: Path, run: Path) -> None:
        change(data, lambda coco: coco["categories"][1].pop("name"))
        assert_refused(train(data), "category 7 has no name", run=run)

    def test_a_category_id_twice(self, train: Train, data: Path, run: Path) -> None:
        change(data, lambda coco: coco["categories"][1].update(id=3))
        assert_refused(train(data), "every category needs its own id, but 3 occurs more than once", run=run)

    def test_an_image_id_twice(self, train: Train, data: Path, run: Path) -> None:
        change(data, lambda coco: coco["images"][1].update(id=1))
        assert_refused(train(data), "several images of id 1", run=run)

    def test_no_boxes_at_all(self, train: Train, data: Path, run: Path) -> None:
        change(data, lambda coco: coco["annotations"].clear())
        assert_refused(train(data), "has no boxes", run=run)

    @pytest.mark.parametrize(
        ("annotation", "changes", "warning"),
        [
            (0, {"image_id": 99}, "1 annotation of images that the file does not list"),
            (0, {"bbox": [20, 20, 40, 40]}, "1 box reaching beyond the image, clipped"),
            (0, {"bbox": [90, 90, 5, 5]}, "1 box wholly outside the image, left out"),
            (1, {"id": 1}, "1 annotation with an id that another one has"),
        ],
    )
    def test_what_can_be_left_out_is_counted_and_training_goes_on(
        self, annotation: int, changes: Coco, warning: str, train: Train, data: Path, run: Path
    ) -> None:
        change(data, lambda coco: coco["annotations"][annotation].update(changes))
        ended = train(data)
        assert ended.code == 0, ended.err
        assert warning in " ".join((ended.out + ended.err).split())
        assert (run / "results.json").is_file()


class TestSettings:
    def test_an_unknown_recipe(self, train: Train, data: Path, run: Path) -> None:
        ended = train(data, recipe="conditional_detr_tinny")
        assert_refused(ended, "unknown recipe 'conditional_detr_tinny'; did you mean 'conditional_detr_tiny'?", run=run)

    def test_an_unknown_setting(self, train: Train, data: Path, run: Path) -> None:
        ended = train(data, "--set", "data.batchsize=2")
        assert_refused(ended, "unknown setting data.batchsize; did you mean 'data.batch_size'?", run=run)

    def test_a_setting_of_the_wrong_type(self, train: Train, data: Path, run: Path) -> None:
        assert_refused(train(data, "--set", "epochs=soon"), "epochs: input should be a valid integer", run=run)

    @pytest.mark.parametrize(
        ("setting", "complaint"),
        [
            ("epochs=0", "epochs: input should be greater than or equal to 1"),
            ("minutes=-3", "minutes: input should be greater than 0"),
            ("detector.backbone.blocks=[1000000000]", "blocks.0: input should be less than or equal to 128"),
            ("detector.criterion.l1=-1", "detector.criterion.l1: input should be greater than or equal to 0"),
            ("seed=1000000000000000000000000", "seed: input should be less than 9223372036854775808"),
            ("data.transform.scale=[2,1]", "scale must go from least to largest, got (2.0, 1.0)"),
        ],
    )
    def test_a_setting_out_of_range(self, setting: str, complaint: str, train: Train, data: Path, run: Path) -> None:
        assert_refused(train(data, "--set", setting), complaint, run=run)

    def test_minutes_and_epochs_together(self, train: Train, data: Path, run: Path) -> None:
        assert_refused(train(data, "--minutes", "5", "--epochs", "3"), "give --minutes or --epochs, not both", run=run)

    @pytest.mark.parametrize("logger", ["mlflow", "wandb"])
    def test_a_logger_whose_library_is_missing(self, logger: str, train: Train, data: Path, run: Path) -> None:
        if find_spec(logger) is not None:
            pytest.skip(f"{logger} is installed")
        assert_refused(train(data, "--set", f"loggers=[{logger}]"), f"pip install {logger}", run=run)

    def test_weights_that_are_not_there(self, train: Train, data: Path, tmp_path: Path, run: Path) -> None:
        assert_refused(train(data, "--init-from", tmp_path / "none"), f"{tmp_path / 'none'} does not exist", run=run)


class TestCheckpoints:
    """Of the two classes bolt and nut, where the data has others."""

    @pytest.fixture
    def other_data(self, tmp_path: Path) -> Path:
        for split, first, count in (("train", 1, 4), ("val", 5, 2)):
            content = coco_file(first_image=first, num_images=count)
            content["categories"][0]["name"] = "screw"
            write_coco(tmp_path / "screws", split=split, content=content)
        return tmp_path / "screws"

    def test_resuming_on_data_of_other_classes(self, train: Train, data: Path, other_data: Path, run: Path) -> None:
        assert train(data).code == 0
        before = (run / "checkpoints" / "last.ckpt").read_bytes()
        ended = train(other_data, "--resume", "auto", "--set", "epochs=2")
        assert ended.code == 2
        assert "screw" in ended.err
        assert ended.err.count("\n") == 1
        assert (run / "checkpoints" / "last.ckpt").read_bytes() == before

    def test_evaluating_on_data_of_other_classes(
        self, train: Train, condetr: Command, data: Path, other_data: Path, run: Path
    ) -> None:
        assert train(data).code == 0
        ended = condetr("evaluate", run, "--data", other_data)
        assert ended.code == 2
        assert "screw" in ended.err
        assert ended.err.count("\n") == 1
