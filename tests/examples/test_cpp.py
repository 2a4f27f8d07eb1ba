"""The program in C++ finds what condetr finds; skipped without CMake, OpenCV or ONNX Runtime's headers and library.

ONNXRUNTIME_ROOT names the folder of an unpacked release, unless it is installed for the whole system.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.examples.conftest import CASES, EXAMPLES, LOWEST, MakeCase, Row, require_same


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program once."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    folder = tmp_path_factory.mktemp("build")
    root = f"-DONNXRUNTIME_ROOT={os.environ.get('ONNXRUNTIME_ROOT', '')}"
    configured = ran("cmake", "-S", EXAMPLES / "cpp", "-B", folder, root)
    missing = re.search(r"could not find.*", configured.stderr, re.IGNORECASE)
    if missing is not None:
        pytest.skip(f"CMake {missing[0]}")
    assert configured.returncode == 0, configured.stderr
    built = ran("cmake", "--build", folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "detect"


@pytest.mark.parametrize("name", CASES)
def test_the_program_finds_what_condetr_finds(name: str, program: Path, make_case: MakeCase) -> None:
    graph, photo = make_case(name)

    ended = ran(program, graph, photo, str(LOWEST))

    assert ended.returncode == 0, ended.stderr
    require_same([row_of(line) for line in ended.stdout.splitlines()], graph=graph, photo=photo)


def test_the_program_names_what_is_wrong(program: Path, make_case: MakeCase) -> None:
    graph, photo = make_case("own_size")

    for arguments, sentence in (
        ((graph, graph), "detector.onnx is no image that OpenCV reads"),
        ((graph, photo, "high"), "the lowest score is a number, got high"),
        ((photo, photo), "photo.png failed"),
        ((graph,), "usage: detect"),
    ):
        ended = ran(program, *arguments)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert sentence in ended.stderr


def row_of(line: str) -> Row:
    """Read a line of the program."""
    score, *sides, name = line.split(maxsplit=5)
    return Row(float(score), tuple(map(float, sides)), name)


def ran(*command: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
