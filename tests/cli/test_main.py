import subprocess
import sys
import warnings

import pytest

import condetr
from condetr.cli.main import main
from condetr.errors import InputWarning


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"condetr {condetr.__version__}\n"


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in ("demo", "synth", "train", "evaluate", "predict", "recipes", "config"))


def test_a_mistyped_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["sinth"])
    assert "Did you mean 'synth'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["predict", "run", ""], "the argument after run"),
        (["predict", "", "photos"], "the argument after predict"),
        (["predict", "run", "photos", "--out", ""], "the argument after --out"),
        (["train", "conditional_detr_tiny", "--data="], "--data="),
        (["doctor", ""], "the argument after doctor"),
        (["doctor", "data", "--fix", ""], "the argument after --fix"),
        ([""], "the argument after condetr"),
    ],
)
def test_an_empty_argument_is_refused_by_every_verb(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(arguments)
    assert capsys.readouterr().err.startswith(f"condetr: {named} is empty, ")


def test_a_warning_is_a_line_and_those_of_libraries_are_as_ever(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(**_: object) -> None:
        warnings.warn("bf16 is\nslow", InputWarning, stacklevel=1)
        warnings.warn("old numpy", DeprecationWarning, stacklevel=1)

    monkeypatch.setattr("condetr.cli.main.app", warn)
    with pytest.warns(DeprecationWarning, match="old numpy") as theirs:
        main([])
    assert capsys.readouterr().err == "condetr: bf16 is slow\n"
    assert len(theirs) == 1


def test_help_does_not_wait_for_heavy_imports() -> None:
    code = (
        "import sys\nfrom condetr.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_runs_it_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "condetr", "synht"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Usage: condetr" in done.stderr


def test_importing_condetr_does_not_import_torch() -> None:
    code = "import sys, condetr; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
