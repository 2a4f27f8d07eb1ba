from pathlib import Path
from typing import Literal

import pytest

from condetr.config import assign, dump, from_mapping, load, override, settings, to_yaml
from condetr.errors import InputError


@settings
class SineConfig:
    kind: Literal["sine"] = "sine"
    temperature: float = 20.0


@settings
class GridConfig:
    kind: Literal["grid"] = "grid"
    cells: int = 50
    labels: tuple[str, ...] = ()


@settings
class ScheduleConfig:
    epochs: int = 50
    drop_epoch: int = 40

    def __post_init__(self) -> None:
        if self.drop_epoch > self.epochs:
            raise InputError(f"drop_epoch must lie within the {self.epochs} epochs, got {self.drop_epoch}")


@settings
class FileConfig:
    kind: Literal["file"] = "file"
    path: str


@settings
class WaveConfig:
    kind: Literal["sine", "square"] = "sine"
    period: float = 1.0


@settings
class ToyConfig:
    name: str = "toy"
    learning_rate: float = 1e-4
    sizes: tuple[int, ...] = (480, 512)
    output: Path | None = None
    schedule: ScheduleConfig = ScheduleConfig()
    position: SineConfig | GridConfig | FileConfig = SineConfig()
    second_position: SineConfig | GridConfig | None = None
    wave: WaveConfig = WaveConfig()


def file_with(text: str, *, folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


class TestLoad:
    def test_values_are_read_as_yaml_1_2(self, tmp_path: Path) -> None:
        path = file_with("name: no\nlearning_rate: 1e-4\nsizes: [1, 2]\noutput: runs/x\n", folder=tmp_path)
        config = load(ToyConfig, path)
        assert config == ToyConfig(name="no", learning_rate=1e-4, sizes=(1, 2), output=Path("runs/x"))

    def test_a_nested_block_becomes_the_class_of_its_kind(self, tmp_path: Path) -> None:
        path = file_with("position: {kind: grid, cells: 7}\nsecond_position: {kind: sine}\n", folder=tmp_path)
        config = load(ToyConfig, path)
        assert config.position == GridConfig(cells=7)
        assert config.second_position == SineConfig()

    def test_a_block_without_kind_takes_the_class_of_the_default(self) -> None:
        assert from_mapping(ToyConfig, {"position": {"temperature": 5}}, source="x").position == SineConfig(
            temperature=5.0
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("learning_rat: 1", "unknown setting learning_rat; did you mean 'learning_rate'?"),
            ("schedule: {drop_epochs: 3}", "unknown setting schedule.drop_epochs; did you mean 'schedule.drop_epoch'?"),
            ("schedule: {zzz: 3}", "unknown setting schedule.zzz; known here: epochs, drop_epoch"),
            (
                "position: {kind: grid, temperature: 3}",
                "unknown setting position.temperature; known here: kind, cells, labels",
            ),
            ("1: 2", "unknown setting 1; known here"),
            ("schedule: {drop_epoch: abc}", "schedule.drop_epoch: input should be a valid integer, .* got 'abc'"),
            ("position: {kind: grid, cells: 1.5}", "position.cells: input should be a valid integer, .* got 1.5"),
            ("name: 3", "name: input should be a valid string, got 3"),
            ("learning_rate: .nan", "learning_rate: input should be a finite number, got nan"),
            ("sizes: [1, x]", "sizes.1: input should be a valid integer, .* got 'x'"),
            ("position: {kind: grit}", "position.kind must be one of sine, grid, file, got 'grit'"),
            ("second_position: {}", "second_position.kind must be one of sine, grid, got None"),
            ("position: {kind: [1]}", r"position.kind must be one of sine, grid, file, got \[1\]"),
            ("position: {kind: file}", "position.path must be given"),
            ("position: grid", "position has settings of its own below it, got 'grid'"),
            ("schedule: {epochs: 3}", "schedule: drop_epoch must lie within the 3 epochs, got 40"),
        ],
    )
    def test_a_wrong_setting_is_refused_by_its_whole_path(self, text: str, message: str, tmp_path: Path) -> None:
        path = file_with(text, folder=tmp_path)
        with pytest.raises(InputError, match=f"config.yaml: {message}"):
            load(ToyConfig, path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "must hold settings as `name: value` lines, found nothing"),
            ("- 1\n- 2\n", "found list"),
            ("name: [", "is not valid YAML: .* in line"),
            ("name: a\nname: b\n", 'is not valid YAML: found duplicate key "name" .* in line 2'),
            (
                "name: !!python/object/apply:os.system [ls]",
                "is not valid YAML: could not determine a constructor .* in line 1",
            ),
            ("name: !!python/name:os.system", "is not valid YAML: could not determine a constructor"),
            ("name: \0", "is not valid YAML"),
            ("sizes: " + "[" * 1200, "is not valid YAML: it is nested too deeply"),
        ],
    )
    def test_what_is_not_plain_yaml_settings_is_refused(self, text: str, message: str, tmp_path: Path) -> None:
        path = file_with(text, folder=tmp_path)
        with pytest.raises(InputError, match=message) as caught:
            load(ToyConfig, path)
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize("key", ["sizes", "name", "schedule", "anything"])
    def test_aliases_that_multiply_are_refused_in_one_short_line(self, key: str, tmp_path: Path) -> None:
        levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
        path = file_with("\n".join(["a0: &a0 lol", *levels, f"{key}: *a29"]), folder=tmp_path)
        with pytest.raises(InputError) as caught:
            load(ToyConfig, path)
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize(
        "text", ["sizes: &a [*a]", "sizes: &a [[*a, *a], *a]", "schedule: &a {epochs: *a}", "new: &a {b: *a}"]
    )
    def test_aliases_that_multiply_or_recur_are_refused(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(InputError):
            load(ToyConfig, file_with(text, folder=tmp_path))

    def test_a_file_that_is_not_text_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_bytes(b"\x89PNG\xff\xfe")
        with pytest.raises(InputError, match="is not valid YAML"):
            load(ToyConfig, path)

    @pytest.mark.parametrize("name", ["missing.yaml", "."])
    def test_a_file_that_cannot_be_read_is_named(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot read the settings file"):
            load(ToyConfig, tmp_path / name)


class TestOverride:
    def test_a_path_reaches_a_nested_setting(self) -> None:
        config = override(ToyConfig(), ["schedule.drop_epoch=30", "learning_rate=3e-5", "sizes=[1,2]", "name=a=b"])
        assert config == ToyConfig(schedule=ScheduleConfig(drop_epoch=30), learning_rate=3e-5, sizes=(1, 2), name="a=b")

    def test_the_given_config_is_left_alone(self) -> None:
        config = ToyConfig()
        override(config, ["name=other"])
        assert config == ToyConfig()

    def test_of_two_assignments_the_later_counts(self) -> None:
        assert override(ToyConfig(), ["name=a", "name=b"]).name == "b"

    def test_another_kind_starts_from_its_own_defaults(self) -> None:
        config = ToyConfig(position=SineConfig(temperature=3.0))
        assert override(config, ["position.kind=grid"]).position == GridConfig()

    def test_the_same_kind_keeps_what_was_set(self) -> None:
        config = ToyConfig(position=SineConfig(temperature=3.0))
        assert override(config, ["position.kind=sine"]) == config

    def test_another_kind_with_the_same_settings_keeps_what_was_set(self) -> None:
        config = override(ToyConfig(wave=WaveConfig(period=3.0)), ["wave.kind=square"])
        assert config.wave == WaveConfig(kind="square", period=3.0)

    @pytest.mark.parametrize(
        "assignments", [["position.kind=grid", "position.cells=9"], ["position.cells=9", "position.kind=grid"]]
    )
    def test_a_kind_and_its_settings_may_come_in_any_order(self, assignments: list[str]) -> None:
        assert override(ToyConfig(), assignments).position == GridConfig(cells=9)

    def test_settings_can_be_given_where_none_were(self) -> None:
        config = override(ToyConfig(), ["second_position.kind=grid", "second_position.labels=[no, 'null']"])
        assert config.second_position == GridConfig(labels=("no", "null"))
        assert override(config, ["second_position="]).second_position is None

    @pytest.mark.parametrize(
        ("assignment", "message"),
        [
            ("name", "a setting is given as path=value, got 'name'"),
            ("nam=x", "unknown setting nam; did you mean 'name'?"),
            ("schedule.epoch=3", "unknown setting schedule.epoch; did you mean 'schedule.epochs'?"),
            ("schedul.epochs=3", "unknown setting schedul.epochs; did you mean 'schedule.epochs'?"),
            ("schedul.zzz=3", "unknown setting schedul.zzz; did you mean 'schedule'?"),
            ("drop_epoch=3", "unknown setting drop_epoch; did you mean 'schedule.drop_epoch'?"),
            ("position.drop_epoch=3", "unknown setting position.drop_epoch; did you mean 'schedule.drop_epoch'?"),
            ("cells=3", "unknown setting cells; did you mean 'position.cells' or 'second_position.cells'?"),
            ("drop_epochs=3", "unknown setting drop_epochs; did you mean 'schedule.drop_epoch'?"),
            ("position.cells=3", "unknown setting position.cells; known here: kind, temperature"),
            ("name.length=3", "unknown setting 'name.length': name has no settings below it"),
            ("schedule.drop_epoch=abc", "^schedule.drop_epoch: input should be a valid integer, .* got 'abc'"),
            ("schedule.drop_epoch=", "^schedule.drop_epoch: input should be a valid integer, got None"),
            ("schedule=3", "^schedule has settings of its own below it, got 3"),
            ("position.kind=grit", "^position.kind must be one of sine, grid, file, got 'grit'"),
            ("sizes=[1", "cannot read the value of 'sizes=\\[1'"),
            ("=3", "^unknown setting ; known here: "),
        ],
    )
    def test_a_wrong_assignment_is_refused(self, assignment: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            override(ToyConfig(), [assignment])


@pytest.mark.parametrize("name", ["no", "123", "a: b", "#1", "C:\\data", "it's", " "])
def test_an_assigned_value_is_taken_as_it_is(name: str) -> None:
    assert assign(ToyConfig(), {"name": name, "position.kind": "sine"}, source="--name").name == name


def test_dumped_settings_are_plain_data() -> None:
    config = ToyConfig(output=Path("runs/x"), second_position=GridConfig(labels=("a",)))
    assert dump(config) == {
        "name": "toy",
        "learning_rate": 1e-4,
        "sizes": [480, 512],
        "output": "runs/x",
        "schedule": {"epochs": 50, "drop_epoch": 40},
        "position": {"kind": "sine", "temperature": 20.0},
        "second_position": {"kind": "grid", "cells": 50, "labels": ["a"]},
        "wave": {"kind": "sine", "period": 1.0},
    }


def test_yaml_text_is_one_line_for_a_plain_setting() -> None:
    assert "learning_rate: 0.0001\n" in to_yaml(ToyConfig())
    assert "sizes: [480, 512]\n" in to_yaml(ToyConfig())
    assert "output: null\n" in to_yaml(ToyConfig())
