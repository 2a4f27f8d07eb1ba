from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from condetr.api import fit as train
from condetr.api import open_splits
from condetr.engine.loaders import data_findings
from tests.unit.conftest import Config


def test_a_training_says_beforehand_what_cannot_be_found(tiny: Config, tmp_path: Path) -> None:
    config = tiny(epochs=1)
    config = replace(config, detector=replace(cast(Any, config.detector), num_queries=1))
    said = StringIO()
    train(config, out=tmp_path / "run", console=Console(file=said, width=500))
    assert "with more objects than the 1 that custom can find" in said.getvalue()


def test_what_suits_the_settings_is_not_spoken_of(tiny: Config) -> None:
    config = tiny()
    config = replace(config, detector=replace(cast(Any, config.detector), num_queries=20))
    splits, detector = open_splits(config), config.detector.build(num_classes=6)
    findings = data_findings(splits, config=config, detector=detector)
    assert [finding for finding in findings if finding.severity != "info"] == []
