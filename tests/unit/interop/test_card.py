import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel
from condetr.interop.card import make_card, read_results

RESULTS = {
    "AP": 0.4567,
    "AP50": 0.7,
    "AP75": None,
    "val_images": 72,
    "train_images": 292,
    "epochs": 50,
    "best_epoch": 48,
    "recipe": "conditional_detr_tiny",
    "train_seconds": 1440.0,
}


def test_a_card_begins_with_what_the_hub_reads(model: LoadedModel) -> None:
    card = make_card(model, name="bolts", results=None)

    front = YAML(typ="safe").load(card.split("---\n")[1])
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "object-detection"
    assert "conditional-detr" in front["tags"]


def test_a_card_shows_the_runs_results(model: LoadedModel) -> None:
    card = make_card(model, name="bolts", results=RESULTS)

    assert "| 0.457 | 0.700 | - | 72 | 50 | 292 |" in card
    assert "`conditional_detr_tiny`, trained for 24.0 minutes" in card


def test_a_card_uses_the_models_own_threshold(model: LoadedModel) -> None:
    without, own = (make_card(model._replace(threshold=each), name="bolts", results=None) for each in (None, 0.27))

    assert "outputs, threshold=0.5," in without
    assert "outputs, threshold=0.27," in own
    assert "model's id on the hub. The threshold 0.27 had the best F1" in own
    assert "the best F1" not in without


def test_a_card_without_results_says_so(model: LoadedModel) -> None:
    assert "There are no recorded results for these weights" in make_card(model, name="bolts", results=None)


def test_a_card_names_every_class_with_row_and_id(model: LoadedModel) -> None:
    card = make_card(model, name="bolts", results=None)

    assert "# bolts: Conditional DETR with ResNet-18" in card
    assert "| 90 | 90 | toothbrush |" in card
    assert "N/A" not in card


@pytest.mark.parametrize("weights", ["run", "run/best"])
def test_results_lie_in_the_run_folder(weights: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "best").mkdir(parents=True)
    (tmp_path / "run" / "results.json").write_text(json.dumps(RESULTS))

    assert read_results(tmp_path / weights) == RESULTS


def test_the_results_of_an_evaluation_are_not_those_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"AP": 0.5, "images": 9}))

    assert read_results(tmp_path / "best") is None


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{")

    with pytest.raises(InputError, match=r"results\.json is not valid JSON"):
        read_results(tmp_path)


def test_a_model_folder_has_no_results(tmp_path: Path) -> None:
    (tmp_path / "deep" / "model").mkdir(parents=True)

    assert read_results(tmp_path / "deep" / "model") is None
