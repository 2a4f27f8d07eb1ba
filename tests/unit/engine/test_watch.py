"""Each watch speaks of what it watches over, and only then."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condetr.api import fit as train
from condetr.data.dataset import ImageRecord, Split
from condetr.engine import watch
from condetr.engine.config import TrainConfig
from condetr.labels import Category, LabelMap
from condetr.shapes import Detections

LABELS = LabelMap((Category(1, "bolt"),))
SIZE = 100


def split(images: int = 4) -> Split:
    record = ImageRecord(
        image_id=0,
        path=Path("none.png"),
        size_hw=(SIZE, SIZE),
        boxes_xyxy=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        is_crowd=np.zeros(0, bool),
        areas=np.zeros(0, np.float32),
    )
    return Split(name="val", records=tuple(replace(record, image_id=i) for i in range(images)), label_map=LABELS)


def boxes(xyxy: list[tuple[float, float, float, float]]) -> Detections:
    return Detections(
        boxes_xyxy=np.array(xyxy, np.float32),
        scores=np.full(len(xyxy), 0.5, np.float32),
        labels=np.zeros(len(xyxy), np.int64),
        names=("bolt",) * len(xyxy),
    )


def spread(shift: int = 0) -> Detections:
    return boxes([(10 + shift, 10, 40, 40), (50, 50 + shift, 90, 90)])


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        (watch.few_steps(steps=500, warmup_steps=0, from_weights=False), "only 500 steps"),
        (watch.few_steps(steps=500, warmup_steps=0, from_weights=True), None),
        (watch.few_steps(steps=5000, warmup_steps=3000, from_weights=False), "schedule.warmup_steps 3000"),
        (watch.few_steps(steps=5000, warmup_steps=500, from_weights=False), None),
        (watch.unfit_learning_rate(lr=1e-2, batch_size=16), "far above"),
        (watch.unfit_learning_rate(lr=1e-6, batch_size=16), "far below"),
        (watch.unfit_learning_rate(lr=8e-4, batch_size=4), None),
        (watch.skipped_steps(skipped=2, steps=90), "2 of 90 steps skipped"),
        (watch.skipped_steps(skipped=0, steps=90), None),
        (watch.standing_loss([9.0, 9.1, 8.9], steps=900), "has not fallen"),
        (watch.standing_loss([9.0, 9.1, 8.9], steps=30), None),
        (watch.standing_loss([9.0, 7.0, 9.0], steps=900), None),
        (watch.runaway_gradient([2.0, 3.0, 300.0]), "explodes"),
        (watch.runaway_gradient([2.0, 3.0, 30.0]), None),
        (watch.vanished_gradient([2.0, 1e-4], losses=[9.0, 8.0]), "vanishes"),
        (watch.vanished_gradient([2.0, 1e-4], losses=[9.0, 0.1]), None),
        (watch.zero_recall(0.0, step=2000), "no object is found"),
        (watch.zero_recall(0.2, step=2000), None),
        (watch.zero_recall(float("nan"), step=2000), None),
        (watch.blown_up_detector(left_out=3), "3 detections"),
        (watch.blown_up_detector(left_out=0), None),
    ],
)
def test_a_watch_speaks_where_it_should_and_is_silent_elsewhere(sentence: str | None, words: str | None) -> None:
    assert sentence is None if words is None else sentence is not None and words in sentence


def test_bf16_that_is_not_faster_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condetr.optimize.machine.has_fast_bf16", lambda device: False)
    cpu = torch.device("cpu")
    assert "no faster" in str(watch.emulated_precision("bf16-mixed", device=cpu))
    assert watch.emulated_precision("auto", device=cpu) is None


def test_queries_that_all_say_the_same_have_collapsed() -> None:
    same = {image: boxes([(10, 10, 40, 40)] * 5) for image in range(4)}
    assert "collapsed" in str(watch.collapsed_predictions(split(), same, recall=0.01))
    assert watch.collapsed_predictions(split(), same, recall=0.6) is None
    assert watch.collapsed_predictions(split(), {image: spread() for image in range(4)}, recall=0.01) is None
    assert watch.collapsed_predictions(split(), {}, recall=0.01) is None


def test_the_same_best_box_in_every_image_means_that_images_are_not_seen() -> None:
    assert "same in every image" in str(
        watch.unseen_images(split(), {image: spread() for image in range(4)}, recall=0.01)
    )
    moving = {image: spread(shift=5 * image) for image in range(4)}
    assert watch.unseen_images(split(), moving, recall=0.01) is None


@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=9), st.floats(1e-3, 1e3))
def test_gradients_are_judged_by_their_ratios(norms: list[float], scale: float) -> None:
    scaled = [scale * norm for norm in norms]
    if abs(norms[-1] / np.median(norms[:-1]) - 50) > 1e-6:
        assert (watch.runaway_gradient(norms) is None) == (watch.runaway_gradient(scaled) is None)


def test_a_warning_is_said_once_and_kept_in_the_results(
    tiny: Callable[..., TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(tiny(), out=tmp_path / "run")
    assert "only 6 steps" in result.facts.warnings["few_steps"]
    assert capsys.readouterr().out.count("warning: this training has only 6 steps") == 1
