"""`condetr ui`: it answers on this machine, ends on Ctrl-C, and refuses what it cannot do."""

import signal
import socket
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.inference.model_folder import save_model
from condetr.labels import Category, LabelMap
from tests.cli.conftest import Command
from tests.tiny import TINY

needs_its_libraries = pytest.mark.skipif(
    find_spec("fastapi") is None or find_spec("uvicorn") is None, reason="its libraries are not here"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder of an untrained model."""
    config = ConditionalDetrConfig(**TINY)
    labels = LabelMap((Category(3, "bolt"), Category(7, "nut")))
    save_model(
        tmp_path / "model", config.build(num_classes=2), detector_config=config, transform=LightTransformConfig(),
        label_map=labels,
    )  # fmt: skip
    return tmp_path / "model"


@needs_its_libraries
def test_it_answers_on_this_machine_until_ctrl_c(model: Path) -> None:
    command = [sys.executable, "-u", "-m", "condetr", "ui", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line.startswith("open http://127.0.0.1:"), line
        with urllib.request.urlopen(line.split()[1], timeout=60) as answer:
            assert str(model).encode() in answer.read()
        running.send_signal(signal.SIGINT)
        _, complaints = running.communicate(timeout=60)
    assert "Traceback" not in complaints


def test_without_its_libraries_it_names_them(model: Path, condetr: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    ended = condetr("ui", model)
    assert (ended.code, ended.err) == (2, "condetr: the user interface needs uvicorn: pip install 'condetr[ui]'\n")


@needs_its_libraries
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{folder}/gone"], "gone does not exist"),
        (["{model}", "--port", "{port}"], "choose another --port or --host"),
        (["{model}", "--host", "256.1.1.1"], "choose another --port or --host"),
        ([], "there are no runs in runs/"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_line(
    arguments: list[str], sentence: str, model: Path, condetr: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        known = {"folder": model.parent, "model": model, "port": taken.getsockname()[1]}
        ended = condetr("ui", *(argument.format(**known) for argument in arguments))
    assert ended.code == 2
    assert sentence in ended.err
    assert len(ended.err.strip().splitlines()) == 1
