"""`--json`: stdout is one JSON value, and the one that the verb's file holds."""

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import Command, Train


def read(path: Path) -> Any:  # noqa: ANN401 - JSON is anything
    """Return what a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def test_what_a_verb_prints_is_what_its_file_holds(
    data: Path, run: Path, train: Train, condetr: Command, tmp_path: Path
) -> None:
    image = next(path for path in sorted(data.rglob("*")) if path.suffix in (".jpg", ".png"))
    trained = train(data, "--json")
    commands = {
        "results.json": ["evaluate", run, "--data", data, "--padding-check"],
        "detections.json": ["predict", run, image],
        "explanation.json": ["explain", run, image, "--query", "0"],
        "comparison.json": ["compare", run, "--levels", "0.5"],
    }
    ended = {name: condetr(*arguments, "--json", "--out", tmp_path / name) for name, arguments in commands.items()}

    assert trained.code == 0, trained.err
    assert json.loads(trained.out) == read(run / "results.json")
    for name, each in ended.items():
        assert each.code == 0, each.err
        assert json.loads(each.out) == read(tmp_path / name / name)


def test_a_conversion_tells_how_far_both_sides_are_apart(
    data: Path, run: Path, train: Train, condetr: Command, tmp_path: Path
) -> None:
    train(data)
    ended = condetr("convert", run, tmp_path / "copy", "--json")

    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["source"], found["destination"]) == (str(run), str(tmp_path / "copy"))
    assert 0 <= found["logits"] < 1e-4


def test_a_sanity_check_gives_every_loss_and_the_verdict(data: Path, condetr: Command) -> None:
    ended = condetr("sanity", data, "--images", 2, "--steps", 3, "--json")

    assert ended.code == 1, ended.err
    found = json.loads(ended.out)
    assert not found["passed"]
    assert found["verdict"]
    assert (len(found["losses"]), len(found["images"])) == (3, 2)
