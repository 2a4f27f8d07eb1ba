import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from condetr.api import evaluate
from condetr.api import fit as train
from condetr.data.dataset import Finding, Split
from condetr.engine import results
from condetr.engine.config import TrainConfig
from condetr.engine.results import LastScores, RunFacts
from condetr.interop.loading import load
from condetr.labels import Category, LabelMap
from condetr.metrics.coco import CocoResults, evaluate_coco
from condetr.shapes import Detections

Config = Callable[..., TrainConfig]

LAYOUT = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_1", "AR_10", "AR_100", "F1", "threshold"),
    *("per_class", "recipe"),
    *("best_epoch", "last", "epochs", "steps", "skipped_steps", "images_seen", "train_seconds", "train_images"),
    *("val_images", "split", "parameters", "label_map", "warnings", "findings", "versions"),
)


def facts(*, last: LastScores) -> RunFacts:
    return RunFacts(
        recipe="custom",
        best_epoch=2,
        last=last,
        epochs=3,
        steps=6,
        skipped_steps=0,
        images_seen=24,
        train_seconds=1.5,
        train_images=8,
        val_images=4,
        split="val",
        parameters=100,
        label_map=LabelMap((Category(7, "bolt"),)),
        warnings={"few_steps": "only 6 steps"},
        findings=(Finding(severity="warning", what="2 boxes without area", count=2, examples=("a.jpg: box 1",)),),
        versions={"torch": "2.11.0"},
    )


def test_a_training_and_an_evaluation_give_the_same_kind_of_numbers(tiny: Config, tmp_path: Path) -> None:
    config = tiny(epochs=1)
    result = train(config, out=tmp_path / "run")
    again = evaluate(tmp_path / "run", str(config.data.path))

    assert type(result.results) is type(again) is CocoResults
    assert [each.name for each in result.results.per_class] == [each.name for each in again.per_class]
    assert pytest.approx(again.AP, abs=1e-3, nan_ok=True) == result.results.AP


def test_results_json_keeps_its_layout(tiny: Config, tmp_path: Path) -> None:
    result = train(tiny(epochs=1), out=tmp_path / "run")

    written = json.loads((tmp_path / "run" / "results.json").read_text())
    assert tuple(written) == LAYOUT
    assert (written["epochs"], written["steps"]) == (result.facts.epochs, result.facts.steps)


def test_what_is_undefined_is_nan_in_python_and_null_in_the_file() -> None:
    known = facts(last=LastScores(AP=math.nan, AP50=0.5, AP75=0.25))

    assert known.to_dict()["last"] == {"AP": None, "AP50": 0.5, "AP75": 0.25}
    assert "NaN" not in json.dumps(known.to_dict())


def test_facts_become_plain_data() -> None:
    plain = json.loads(json.dumps(facts(last=LastScores(0.1, 0.2, 0.1)).to_dict()))

    assert plain["label_map"] == [{"training_id": 0, "dataset_id": 7, "name": "bolt"}]
    assert plain["findings"] == [{"severity": "warning", "what": "2 boxes without area", "examples": ["a.jpg: box 1"]}]
    assert plain["warnings"] == {"few_steps": "only 6 steps"}


@pytest.mark.parametrize(("measured", "stored"), [(0.31, 0.31), (math.nan, None)])
def test_the_best_model_has_the_threshold_of_its_evaluation(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: float, stored: float | None
) -> None:
    # The smallest detector finds nothing in an epoch, so the threshold is put in.
    def evaluate_with_threshold(split: Split, detections: dict[int, Detections]) -> CocoResults:
        return replace(evaluate_coco(split, detections), threshold=measured)

    monkeypatch.setattr(results, "evaluate_coco", evaluate_with_threshold)

    trained = train(tiny(epochs=1), out=tmp_path / "run")

    assert load(tmp_path / "run", device="cpu").own_threshold == stored
    assert trained.to_dict()["threshold"] == stored
