from pathlib import Path

import pytest

from condetr.storage import remembered as module
from condetr.storage.remembered import remembered


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONDETR_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "_known", {})
    return tmp_path


def test_a_measurement_is_made_once_and_read_by_later_processes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert remembered("the sky is blue", measure=lambda: True)
    monkeypatch.setattr(module, "_known", {})  # a later process

    assert remembered("the sky is blue", measure=lambda: False)
    assert remembered("the best engine", measure=lambda: "openvino") == "openvino"
    assert len(list(cache.rglob("*.json"))) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"value": 3}', '{"value": null}'])
def test_a_damaged_file_is_measured_again(content: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered("the sky is blue", measure=lambda: True)
    (file,) = cache.rglob("*.json")
    file.write_text(content)
    monkeypatch.setattr(module, "_known", {})

    assert not remembered("the sky is blue", measure=lambda: False)
    assert '"value": false' in file.read_text()


def test_without_a_cache_every_process_measures_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONDETR_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(module, "_known", {})
    values = iter([True])

    assert remembered("the sky is blue", measure=lambda: next(values))
    assert remembered("the sky is blue", measure=lambda: next(values))
