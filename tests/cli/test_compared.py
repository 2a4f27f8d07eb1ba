"""Every command in our column of docs/compared.md does what its row says."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from condetr.cli.main import main
from condetr.scenes.shapes import write_scenes
from tests.cli.conftest import TINY, Command

PAGE = Path(__file__).parents[2] / "docs" / "compared.md"
COMMAND = re.compile(r"`(condetr [^`]*)`")
NOT_OURS = {"TensorRT, CoreML, TFLite by one command", "masks, key points, tracking", "weights pretrained on COCO"}
"""Rows in which we have no command to show."""


def rows() -> list[list[str]]:
    """Return the cells of each row of the table."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


COMMANDS = [command for row in rows() for command in COMMAND.findall(row[-1])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data, an image, a video, a run and its graph."""
    folder = tmp_path_factory.mktemp("compared")
    write_scenes(folder / "data", num_images=8, val_images=4, seed=3, size=64)
    shutil.copy(folder / "data" / "images" / "val_000000.jpg", folder / "photo.jpg")
    with av.open(str(folder / "clip.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.asarray(Image.open(folder / "photo.jpg")), format="rgb24")
        video.mux([*stream.encode(frame), *stream.encode()])
    settings = [part for setting in TINY for part in ("--set", setting)]
    run = ["train", "conditional_detr_tiny", "--data", str(folder / "data"), "--out", str(folder / "runs" / "RUN")]
    with pytest.raises(SystemExit, match="0"):
        main([*run, *settings])
    return folder


def test_each_wish_has_a_cell_of_every_tool_and_ours_a_command() -> None:
    assert all(len(row) == 6 and all(row) for row in rows())
    assert {row[0] for row in rows() if not COMMAND.search(row[-1])} == NOT_OURS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works(command: str, folder: Path, condetr: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    _, *arguments = shlex.split(command)
    if "--devices" in arguments:  # it starts itself in several processes
        ended = subprocess.run(
            [sys.executable, "-m", "condetr", *arguments], capture_output=True, text=True, check=False, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
    elif arguments[:2] == ["predict", "detector.onnx"] and not Path("detector.onnx").exists():
        pytest.skip("the command before it makes the graph")
    else:
        said = condetr(*arguments)
        assert said.code == 0, said.err
    written = [arguments[place + 1] for place, word in enumerate(arguments) if word in ("--out", "--fix")]
    written += arguments[2:3] if arguments[0] == "convert" else []
    assert all(Path(name).exists() for name in written)
