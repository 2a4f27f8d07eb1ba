import csv
import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from condetr.api import fit as train
from condetr.api import open_splits
from condetr.config import override
from condetr.detectors.detr import DetrConfig
from condetr.detectors.tsp_fcos import TspFcosConfig
from condetr.detectors.tsp_rcnn import TspRcnnConfig
from condetr.engine.checkpoint import Progress, _require_same_data, _require_same_past
from condetr.engine.config import EarlyStoppingConfig, TrainConfig
from condetr.engine.optim import (
    CosineScheduleConfig,
    LinearScheduleConfig,
    OptimizerConfig,
    ScheduleConfig,
    SgdConfig,
    StepScheduleConfig,
)
from condetr.errors import InputError
from condetr.labels import LabelMap
from condetr.scenes.shapes import write_scenes
from tests.tiny import tiny as tiny_settings

Config = Callable[..., TrainConfig]


class PowerCut(Exception):  # noqa: N818 - it is what happens
    """Ends a training at a moment of the test's choosing."""


class FailingConsole(Console):
    """Fails when it is to print a certain text."""

    def __init__(self, text: str) -> None:
        super().__init__(quiet=True)
        self.text = text

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401
        """Fail, or stay quiet."""
        if objects and self.text in str(objects[0]):
            raise PowerCut


def history(run: Path) -> list[dict[str, str]]:
    """Return metrics.csv."""
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_folder_holds_what_it_promises(tiny: Config, tmp_path: Path) -> None:
    result = train(tiny(loggers=("tensorboard",)), out=tmp_path / "run")
    run = tmp_path / "run"
    for name in ("config.yaml", "labels.json", "metrics.csv", "predictions.json", "best/model.safetensors"):
        assert (run / name).is_file()
    assert list(run.glob("events.out.tfevents*"))
    assert json.loads((run / "results.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    assert result.facts.steps == 6
    assert result.facts.images_seen == 24
    assert [row["epoch"] for row in history(run)] == ["1", "2", "3"]


def test_a_training_is_put_on_a_device(tiny: Config, tmp_path: Path) -> None:
    said = StringIO()
    train(tiny(epochs=1), out=tmp_path / "run", device="cpu", console=Console(file=said, width=500))
    assert "32-true on cpu" in said.getvalue()
    with pytest.raises(InputError, match="the device 'abacus' cannot be used here"):
        train(tiny(epochs=1), out=tmp_path / "other", device="abacus")
    assert not (tmp_path / "other").exists()


def test_a_resumed_run_ends_like_one_that_was_never_stopped(tiny: Config, tmp_path: Path) -> None:
    train(tiny(), out=tmp_path / "whole")
    with pytest.raises(PowerCut):
        train(tiny(), out=tmp_path / "cut", console=FailingConsole("epoch   2/3"))
    train(tiny(), out=tmp_path / "cut", resume=True)
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    states = [torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True) for run in ("cut", "whole")]
    torch.testing.assert_close(states[0]["detector"], states[1]["detector"], rtol=0, atol=0)
    torch.testing.assert_close(states[0]["ema"], states[1]["ema"], rtol=0, atol=0)


@pytest.mark.parametrize("kind", [TspFcosConfig, TspRcnnConfig])
def test_two_optimizers_and_random_draws_go_on_to_the_same_bits(tiny: Config, tmp_path: Path, kind: Any) -> None:  # noqa: ANN401
    optimizer = OptimizerConfig(norm_weight_decay=0.0, sgd=SgdConfig(lr=1e-3, all_but=("encoder",)))
    config = tiny(detector=tiny_settings(kind), optimizer=optimizer, precision="bf16-mixed", epochs=2)
    train(config, out=tmp_path / "whole")
    with pytest.raises(PowerCut):
        train(config, out=tmp_path / "cut", console=FailingConsole("epoch   1/2"))
    train(config, out=tmp_path / "cut", resume=True)
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    states = [torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True) for run in ("cut", "whole")]
    assert states[0]["optimizer"].keys() == {"adamw", "sgd"}
    for part in ("detector", "optimizer", "ema"):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=0)


def test_a_training_in_fp16_finds_its_scale_and_goes_on_to_the_same_bits(tiny: Config, tmp_path: Path) -> None:
    optimizer = OptimizerConfig(sgd=SgdConfig(lr=1e-3, all_but=("encoder",)))
    config = tiny(precision="16-mixed", optimizer=optimizer)
    result = train(config, out=tmp_path / "whole")
    assert result.facts.skipped_steps == 0
    with pytest.raises(PowerCut):
        train(config, out=tmp_path / "cut", console=FailingConsole("epoch   2/3"))
    train(config, out=tmp_path / "cut", resume=True)
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    states = [torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True) for run in ("cut", "whole")]
    assert states[0]["scaler"] == states[1]["scaler"]
    assert states[0]["scaler"]["scale"] < 2**16, "no step was too large for fp16, so this tests little"
    torch.testing.assert_close(states[0]["detector"], states[1]["detector"], rtol=0, atol=0)


def test_muon_and_images_with_partners_go_on_to_the_same_bits(tiny: Config, tmp_path: Path) -> None:
    drawn = {"mosaic": 0.5, "zoom_out": 0.5, "iou_crop": 0.8, "mixup": 0.5, "copy_blend": 0.9, "start": 0.0}
    config = override(
        tiny(epochs=4, schedule=LinearScheduleConfig(warmup_steps=2)),
        [
            *(f"data.transform.dense.{name}={value}" for name, value in {**drawn, "end": 0.8}.items()),
            *("optimizer.kind=muon", "detector.num_queries=60", "checkpoint_minutes=0", "detector.dropout=0.1"),
        ],
    )
    train(config, out=tmp_path / "whole")
    for moment in ("epoch   1/4", "epoch   3/4"):
        with pytest.raises(PowerCut):
            train(config, out=tmp_path / "cut", console=FailingConsole(moment), resume=True)
    train(config, out=tmp_path / "cut", resume=True)
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    states = [torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True) for run in ("cut", "whole")]
    for part in ("detector", "optimizer", "ema"):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=0)


def test_a_length_with_other_images_in_the_past_is_refused(tiny: Config) -> None:
    then = override(tiny(epochs=10), ["data.transform.dense.mosaic=1", "data.transform.dense.start=0.2"])
    now = override(then, ["epochs=20"])
    _require_same_past(Progress(epoch=1, step=4), then=then, now=now, steps_per_epoch=2)
    with pytest.raises(InputError, match="dense has begun or ended within the 5 steps made, and would"):
        _require_same_past(Progress(epoch=2, step=5), then=then, now=now, steps_per_epoch=2)


def test_a_finished_run_goes_on_with_more_epochs_and_a_later_drop(tiny: Config, tmp_path: Path) -> None:
    longer = tiny(epochs=3, schedule=StepScheduleConfig(drop_epoch=2))
    train(longer, out=tmp_path / "whole")
    train(tiny(epochs=1, schedule=StepScheduleConfig(drop_epoch=1)), out=tmp_path / "run")
    train(longer, out=tmp_path / "run", resume=True)
    for name in ("metrics.csv", "config.yaml", "best/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_training_may_end_inside_an_epoch(tiny: Config, tmp_path: Path) -> None:
    config = tiny(epochs=3, max_steps=5, schedule=CosineScheduleConfig())
    whole = train(config, out=tmp_path / "whole")
    assert (whole.facts.epochs, whole.facts.steps) == (3, 5)
    assert [row["step"] for row in history(tmp_path / "whole")] == ["2", "4", "5"]
    assert float(history(tmp_path / "whole")[-1]["lr"]) < 0.2 * config.optimizer.lr
    with pytest.raises(PowerCut):
        train(config, out=tmp_path / "cut", console=FailingConsole("epoch   2/3"))
    train(config, out=tmp_path / "cut", resume=True)
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    assert train(config, out=tmp_path / "cut", resume=True).facts.steps == 5
    with pytest.raises(InputError, match="cannot resume with more steps: the last epoch was cut short by max_steps=5"):
        train(replace(config, max_steps=6), out=tmp_path / "cut", resume=True)
    with pytest.raises(InputError, match="cannot resume with max_steps=4: 5 steps are already made"):
        train(replace(config, max_steps=4), out=tmp_path / "cut", resume=True)


@pytest.mark.parametrize("foreign", ["results.json", "best/thesis.txt", "notes/1.txt"])
def test_resuming_replaces_nothing_where_there_is_no_checkpoint(tiny: Config, tmp_path: Path, foreign: str) -> None:
    file = tmp_path / "run" / foreign
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    with pytest.raises(InputError, match=r"has no checkpoints/last\.ckpt to resume from, but files"):
        train(tiny(epochs=1), out=tmp_path / "run", resume=True)
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [file]


def test_a_run_that_lost_its_checkpoint_is_not_trained_over(tiny: Config, tmp_path: Path) -> None:
    train(tiny(epochs=2), out=tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()
    kept = (tmp_path / "run" / "metrics.csv").read_bytes()
    with pytest.raises(InputError, match="files that a new training would replace"):
        train(tiny(epochs=1), out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == kept


def test_a_run_that_ended_before_its_first_checkpoint_starts_again(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(PowerCut):
        train(tiny(epochs=1), out=tmp_path / "run", console=FailingConsole("epoch   1/1"))
    assert (tmp_path / "run" / "best").is_dir()
    assert train(tiny(epochs=1), out=tmp_path / "run", resume=True).facts.epochs == 1


def test_resuming_with_epochs_of_which_none_was_evaluated_is_refused(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(PowerCut):
        train(tiny(epochs=6, evaluate_every=4), out=tmp_path / "run", console=FailingConsole("epoch   3/6"))
    kept = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(InputError, match=r"cannot resume with epochs=2: .* none of them was evaluated"):
        train(tiny(epochs=2, evaluate_every=4), out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == kept


def test_resuming_with_other_settings_is_refused(tiny: Config, tmp_path: Path) -> None:
    train(tiny(epochs=1, seed=1), out=tmp_path / "run")
    with pytest.raises(InputError, match=r"seed \(it was 1, now 2\)"):
        train(tiny(epochs=1, seed=2), out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("schedule", "epochs", "message"),
    [
        (StepScheduleConfig(drop_epoch=1), 3, "step 3 was made at 1 of the learning rate, the new one needs 0.1"),
        (StepScheduleConfig(warmup_steps=4), 3, "step 1 was made at 1 of the learning rate, the new one needs 0.25"),
        (CosineScheduleConfig(), 3, "step 3 was made at 1 of the learning rate, the new one needs 0.75"),
        (StepScheduleConfig(), 1, "cannot resume with epochs=1: 2 epochs are already trained"),
    ],
)
def test_a_schedule_that_past_steps_contradict_is_refused(
    schedule: ScheduleConfig, epochs: int, message: str, tiny: Config, tmp_path: Path
) -> None:
    train(tiny(epochs=2, schedule=StepScheduleConfig()), out=tmp_path / "run")
    kept = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(InputError, match=message):
        train(tiny(epochs=epochs, schedule=schedule), out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == kept


def test_before_the_first_step_any_schedule_may_be_chosen(tiny: Config) -> None:
    then, now = tiny(schedule=StepScheduleConfig()), tiny(schedule=StepScheduleConfig(warmup_steps=4))
    _require_same_past(Progress(), then=then, now=now, steps_per_epoch=2)
    with pytest.raises(InputError, match=r"step 1 was made at 1 of .*, the new one needs 0\.25"):
        _require_same_past(Progress(step=1), then=then, now=now, steps_per_epoch=2)


def test_what_does_not_touch_the_numbers_may_change_on_resuming(tiny: Config, tmp_path: Path) -> None:
    config = tiny(epochs=1)
    train(config, out=tmp_path / "run")
    other = replace(config, data=replace(config.data, cache_mb=8), checkpoint_minutes=3.0, loggers=("tensorboard",))
    assert train(other, out=tmp_path / "run", resume=True).facts.steps == 2


def test_resuming_on_fewer_images_is_refused(tiny: Config, tmp_path: Path) -> None:
    write_scenes(tmp_path / "fewer", num_images=4, val_images=4, seed=2, size=64)
    config = tiny(epochs=1)
    train(config, out=tmp_path / "run")
    fewer = replace(config, data=replace(config.data, path=str(tmp_path / "fewer")))
    with pytest.raises(InputError, match="has 8 training images, the data has 4"):
        train(fewer, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("ids_are_counted", [True, False])
def test_resuming_on_other_classes_is_refused(*, ids_are_counted: bool, tiny: Config) -> None:
    splits = open_splits(tiny())
    (first, *others) = splits.train.label_map.categories
    renamed = LabelMap((first._replace(name="owl"), *others), ids_are_counted=ids_are_counted)
    other = replace(splits, train=replace(splits.train, label_map=renamed))
    with pytest.raises(InputError, match=r"was trained on circle.*, the data has owl"):
        _require_same_data({"label_map": splits.train.label_map.to_list()}, other, path=Path("last.ckpt"))


def test_the_losses_of_a_step_are_means_over_its_micro_batches(tiny: Config, tmp_path: Path) -> None:
    standing = {"optimizer": OptimizerConfig(lr=1e-12, backbone_lr=0.0), "epochs": 1}
    config = tiny(**standing, detector=replace(cast(Any, tiny().detector), dropout=0.0))
    accumulated = replace(config, data=replace(config.data, batch_size=4, micro_batch_size=2))
    single = replace(config, data=replace(config.data, batch_size=2))
    losses = []
    for name, each in (("accumulated", accumulated), ("single", single)):
        train(each, out=tmp_path / name)
        losses.append([float(value) for column, value in history(tmp_path / name)[0].items() if "loss" in column])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_accumulated_gradients_are_those_of_the_whole_batch_but_for_the_normaliser(
    tiny: Config, tmp_path: Path
) -> None:
    config = tiny(epochs=1)
    micro = replace(config, data=replace(config.data, micro_batch_size=2))
    facts = [train(each, out=tmp_path / name).facts for name, each in (("a", config), ("b", micro))]
    assert facts[0].steps == facts[1].steps == 2
    assert facts[0].images_seen == facts[1].images_seen == 8


def test_init_from_keeps_all_but_the_class_head(tiny: Config, tmp_path: Path) -> None:
    train(tiny(epochs=1), out=tmp_path / "first")
    config = tiny(epochs=1, init_from=str(tmp_path / "first"))
    train(replace(config, optimizer=replace(config.optimizer, lr=1e-12, backbone_lr=0.0)), out=tmp_path / "second")
    first, second = (load_file(tmp_path / run / "best/model.safetensors") for run in ("first", "second"))
    torch.testing.assert_close(
        {name: first[name] for name in first if "encoder" in name},
        {name: second[name] for name in second if "encoder" in name},
    )


def test_init_from_another_detector_is_refused(tiny: Config, tmp_path: Path) -> None:
    train(tiny(epochs=1), out=tmp_path / "first")
    other = tiny(detector=DetrConfig(backbone=tiny().detector.backbone, dim=32), init_from=str(tmp_path / "first"))
    with pytest.raises(InputError, match="is another detector"):
        train(other, out=tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_early_stopping_ends_a_run_that_does_not_improve(tiny: Config, tmp_path: Path) -> None:
    config = tiny(epochs=9, early_stopping=EarlyStoppingConfig(patience=2, min_delta=0.9))
    said = StringIO()
    assert train(config, out=tmp_path / "run", console=Console(file=said)).facts.epochs == 3
    assert "ended early, after epoch 3: AP has not risen in 2 evaluations (early_stopping.patience)" in said.getvalue()


def test_the_last_model_is_kept_where_that_is_set(tiny: Config, tmp_path: Path) -> None:
    fixed = tiny(optimizer=OptimizerConfig(lr=1e-12, backbone_lr=0.0))  # AP stays what it is after the first epoch
    kept = {keep: train(replace(fixed, keep=keep), out=tmp_path / keep).facts.best_epoch for keep in ("best", "last")}
    assert kept == {"best": 1, "last": 3}


def test_a_detr_with_cross_entropy_trains_in_bf16(tiny: Config, tmp_path: Path) -> None:
    small = tiny().detector
    detector = DetrConfig(
        backbone=small.backbone,
        num_queries=5,
        dim=16,
        num_heads=2,
        feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
    )
    result = train(tiny(detector=detector, epochs=1, precision="bf16-mixed"), out=tmp_path / "run")
    assert result.facts.steps == 2
    assert result.facts.skipped_steps == 0
