import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.mark.parametrize("kind", ["scenes", "digits"])
def test_a_data_set_of_the_asked_size_is_written(kind: str, condetr: Command, tmp_path: Path) -> None:
    ended = condetr("synth", tmp_path / "x", "--images", 3, "--val-images", 2, "--size", 64, "--kind", kind)
    assert ended.code == 0
    assert f"wrote 3 training and 2 validation images to {tmp_path / 'x'}" in ended.out
    for split, count in (("train", 3), ("val", 2)):
        content = json.loads((tmp_path / "x" / "annotations" / f"{split}.json").read_text())
        assert len(content["images"]) == count
        assert {(image["width"], image["height"]) for image in content["images"]} == {(64, 64)}


def test_a_folder_that_holds_something_is_left_alone(condetr: Command, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    ended = condetr("synth", tmp_path, "--images", 1)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"condetr: {tmp_path} exists and is not an empty folder" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("option", [("--images", "0"), ("--size", "tall"), ("--kind", "maps"), ("--imges", "3")])
def test_a_wrong_option_is_refused(option: tuple[str, str], condetr: Command, tmp_path: Path) -> None:
    ended = condetr("synth", tmp_path / "x", *option)
    assert ended.code == 2
    assert option[0] in ended.err
    assert not (tmp_path / "x").exists()


def test_an_interrupted_command_ends_with_130_and_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from condetr.cli.main import main; main()"]
    running = subprocess.Popen(
        [*command, "synth", str(tmp_path / "x"), "--images", "1000000"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, shown = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in shown
