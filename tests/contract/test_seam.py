"""Only a detector's own file, its recipes and the registry name it."""

import ast
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import condetr
from condetr.detectors.registry import DetectorConfig

SOURCE = Path(condetr.__file__).parent
ROOMS_OF_DETECTORS = ("detectors", "recipes")
SHARED = {f"condetr.detectors.{name}" for name in ("registry", "detector", "exported", "published")}
CONFIGS = typing.get_args(typing.get_args(DetectorConfig)[0])
KINDS = {config.kind for config in CONFIGS}
CLASSES = {config.__name__ for config in CONFIGS} | {config.__name__.removesuffix("Config") for config in CONFIGS}
SCORE_FUNCTIONS = {"sigmoid", "softmax"}


def others() -> list[Path]:
    """Return the modules that must not know detectors; the package's public names are those of its users."""
    files = (path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
    return [path for path in files if path.parts[0] not in (*ROOMS_OF_DETECTORS, "__init__.py")]


def named(tree: ast.AST) -> Iterator[str]:
    """Yield what names a detector, its kind or its kind of scores."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("condetr.detectors."):
            if node.module not in SHARED:
                yield f"imports {node.module}"
        elif isinstance(node, ast.Name | ast.Attribute | ast.arg | ast.keyword):
            name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None)
            if name in {*KINDS, *CLASSES, "Scores"} or (name == "scores" and _is_of_a_detector(node)):
                yield f"names {name}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in KINDS | SCORE_FUNCTIONS:
            yield f"says {node.value!r}"


def _is_of_a_detector(node: ast.AST) -> bool:
    """Tell the setting `config.scores` from the scores of detections."""
    return isinstance(node, ast.Attribute) and any(
        word in ast.unparse(node.value).rpartition(".")[2] for word in ("config", "detector", "predictor", "settings")
    )


@pytest.mark.parametrize("path", others(), ids=str)
def test_no_other_module_names_a_detector(path: Path) -> None:
    tree = ast.parse((SOURCE / path).read_text(encoding="utf-8"))
    assert sorted(set(named(tree))) == []


@pytest.mark.parametrize(
    "code",
    [
        "from condetr.detectors.detr import PUBLISHED",
        "isinstance(detector, ConditionalDetr)",
        "if config.kind == 'detr': pass",
        "rank(config.detector.scores)",
        "def f(scores: Literal['sigmoid']): pass",
    ],
)
def test_what_names_one_is_seen(code: str) -> None:
    assert [*named(ast.parse(code))]


def toy(*arguments: object, code: int = 0) -> str:
    """Run the command with a detector more, which one file adds."""
    command = [sys.executable, "-m", "tests.toy_detector", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SOURCE.parents[1], timeout=300)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_detector_of_one_file_does_all_that_the_others_do(tmp_path: Path) -> None:
    data, run = tmp_path / "shapes", tmp_path / "run"
    toy("synth", data, "--images", 24, "--val-images", 6, "--seed", 1, "--size", 64)
    settings = ("detector.kind=toy", "epochs=2", "data.batch_size=8", "schedule.warmup_steps=2", "loggers=[]")
    assigned = [part for setting in settings for part in ("--set", setting)]
    toy("train", "conditional_detr_tiny", "--data", data, "--out", run, *assigned)
    assert (run / "report.html").is_file()

    assert "AP50" in toy("evaluate", run, "--data", data)
    image = next((data / "images").rglob("*.jpg"))
    toy("predict", run, image, "--out", tmp_path / "found", "--threshold", 0)
    assert (tmp_path / "found" / "detections.json").is_file()

    toy("convert", run, tmp_path / "copy")
    toy("convert", run, tmp_path / "toy.onnx")
    for path in (tmp_path / "toy.pth", tmp_path / "theirs"):
        said = toy("convert", run, path, *(["--to", "transformers"] if path.suffix == "" else []), code=2)
        assert "Traceback" not in said
        assert said.count("\n") == 1
    said = toy("explain", run, image, "--out", tmp_path / "why", code=2)
    assert "has no cross-attention" in said
    assert "Traceback" not in said
