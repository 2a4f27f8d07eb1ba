from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from condetr.api import fit as train
from condetr.api import open_splits
from condetr.config import override
from condetr.engine.loaders import data_findings, make_loaders
from condetr.engine.optim import LinearScheduleConfig, ScheduleConfig, StepScheduleConfig, WsdScheduleConfig
from condetr.errors import InputError
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


MIXED = ("data.transform.dense.mixup=1", "data.transform.dense.start=0.25", "data.transform.dense.end=0.75")


def test_the_length_of_the_training_decides_which_steps_are_dense(tiny: Config) -> None:
    mixed = [*MIXED, "data.micro_batch_size=2", "detector.num_queries=100"]
    config = override(tiny(epochs=4, schedule=LinearScheduleConfig()), mixed)
    splits = open_splits(config)
    known = {record.image_id: len(record.labels) for record in splits.train.records}
    loaders = make_loaders(config, splits=splits, rank=0, world_size=1)
    assert (loaders.steps_per_epoch, loaders.accumulate, config.total_steps(2)) == (2, 2, 8)

    def mixed_steps(total: int) -> list[int]:
        steps = [step for epoch in range(4) for step in loaders.steps(epoch, start=0, total=total)]
        more = [
            [sum(batch.targets.counts) > sum(known[image] for image in batch.image_ids) for batch in step]
            for step in steps
        ]
        assert all(len(set(batches)) == 1 for batches in more)
        return [index for index, (batch, _) in enumerate(more) if batch]

    assert mixed_steps(8) == [2, 3]  # mixup ends at half
    assert mixed_steps(4) == [1]


@pytest.mark.parametrize(
    ("schedule", "settings", "message"),
    [
        (
            StepScheduleConfig(drop_epoch=4),
            (),
            "from step 7 of 8 on, where they begin, the rate is still 1 of",
        ),
        (WsdScheduleConfig(decay_from=0.6), (), "the rate is still 0.75 of the full one: let schedule fall to half"),
        (LinearScheduleConfig(), ("data.transform.dense.end=0.99",), r"end=0\.99 leaves no step with clean images"),
    ],
)
def test_dense_images_without_a_clean_ending_at_a_low_rate_are_refused(
    tiny: Config,
    schedule: ScheduleConfig,
    settings: tuple[str, ...],
    message: str,
) -> None:
    config = override(tiny(epochs=4, schedule=schedule), [*MIXED, *settings])
    with pytest.raises(InputError, match=message):
        make_loaders(config, splits=open_splits(config), rank=0, world_size=1)


def test_a_drop_before_the_clean_ending_suffices(tiny: Config) -> None:
    config = override(tiny(epochs=4, schedule=StepScheduleConfig(drop_epoch=2)), MIXED)
    assert make_loaders(config, splits=open_splits(config), rank=0, world_size=1).dense is not None


def test_mosaics_on_small_images_are_warned_of(tiny: Config) -> None:
    def said(*settings: str) -> str:
        config = override(tiny(schedule=LinearScheduleConfig()), ["detector.num_queries=20", *settings])
        splits, detector = open_splits(config), config.detector.build(num_classes=6)
        return " ".join(each.sentence for each in data_findings(splits, config=config, detector=detector))

    mosaic = "data.transform.dense.mosaic=0.5"
    assert "once a mosaic halves them: train at a larger size" in said(mosaic, "data.transform.size_hw=[32,32]")
    assert "mosaic" not in said(mosaic, "data.transform.size_hw=[256,256]")
    assert "mosaic" not in said("data.transform.size_hw=[32,32]")
