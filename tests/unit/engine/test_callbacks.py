import math
from collections.abc import Callable
from pathlib import Path

import pytest

import condetr
from condetr.api import fit
from condetr.engine.callbacks import Callback, EpochReport, EvaluationReport, StepReport
from condetr.engine.config import TrainConfig
from condetr.errors import InputError
from condetr.inference.model_folder import load_model

Config = Callable[..., TrainConfig]


class Notes(Callback):
    """Writes down every call."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.epochs: list[EpochReport] = []
        self.evaluations: list[EvaluationReport] = []
        self.order: list[str] = []

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report)
        self.order.append("step")

    def on_epoch(self, report: EpochReport) -> None:
        self.epochs.append(report)
        self.order.append("epoch")

    def on_evaluation(self, report: EvaluationReport) -> None:
        self.evaluations.append(report)
        self.order.append("evaluation")


def test_steps_evaluations_and_epochs_are_reported_in_their_order(tiny: Config, tmp_path: Path) -> None:
    notes = Notes()

    result = fit(tiny(epochs=2), out=tmp_path / "run", callbacks=[notes])

    per_epoch = result.facts.steps // 2
    assert notes.order == (["step"] * per_epoch + ["evaluation", "epoch"]) * 2
    assert [report.step for report in notes.steps] == list(range(1, result.facts.steps + 1))
    assert all(math.isfinite(float(report.losses["loss"])) and report.lr > 0 for report in notes.steps)
    assert [report.epoch for report in notes.epochs] == [report.epoch for report in notes.evaluations] == [1, 2]
    assert notes.evaluations[0].is_best
    assert notes.epochs[-1].row["AP"] == notes.evaluations[-1].results.AP


def test_watching_changes_nothing(tiny: Config, tmp_path: Path) -> None:
    for name, callbacks in (("plain", []), ("watched", [Notes(), Notes()])):
        fit(tiny(epochs=1), out=tmp_path / name, callbacks=callbacks)

    for file in ("metrics.csv", "best/model.safetensors", "best/config.json"):
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "watched" / file).read_bytes()


class Prune(Callback):
    """Ends the training after an evaluation, as a search for settings does."""

    def on_evaluation(self, report: EvaluationReport) -> None:
        if report.epoch == 2:
            raise LookupError("pruned")


def test_what_a_callback_raises_ends_the_training_which_can_be_resumed(tiny: Config, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="pruned"):
        fit(tiny(epochs=3), out=tmp_path / "run", callbacks=[Prune()])
    assert load_model(tmp_path / "run" / "best").label_map.names

    result = fit(tiny(epochs=3), out=tmp_path / "run", resume=True)

    assert result.facts.epochs == 3


def test_a_training_takes_a_recipe_and_the_short_options(
    tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tiny().data.path
    assert data is not None
    (tmp_path / "small.yaml").write_text(condetr_yaml(tiny(epochs=5)))

    result = condetr.train("small.yaml", data=Path(data), epochs=1, batch_size=2, lr=3e-4, settings=["seed=7"])

    written = condetr.recipe("runs/small/config.yaml")
    assert result.run.path == Path("runs/small")
    assert (result.run.path / "report.html").is_file()
    assert (written.epochs, written.data.batch_size, written.optimizer.lr, written.seed) == (1, 2, 3e-4, 7)


def condetr_yaml(config: TrainConfig) -> str:
    from condetr.config import to_yaml

    return to_yaml(config)


def test_settings_are_changed_by_the_short_options_too(tiny: Config, tmp_path: Path) -> None:
    result = condetr.train(tiny(epochs=5), out=tmp_path / "run", epochs=1)

    assert result.facts.epochs == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "no data to train on"),
        ({"config": "conditional_detr_tinny"}, "did you mean 'conditional_detr_tiny'"),
        ({"config": "conditional_detr_tiny"}, "no data to train on"),
        ({"config": "conditional_detr_tiny", "data": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    arguments: dict[str, object], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match=complaint):
        condetr.train(**arguments)  # type: ignore[arg-type]

    assert list(tmp_path.iterdir()) == []
