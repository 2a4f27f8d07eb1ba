"""The `condetr` command: its verbs, and how it ends.

Each verb has a module of its own, which imports torch and other slow libraries only inside the function. So
`condetr --help` stays fast.
"""

import io
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import condetr
from condetr.cli.compare import CompareCommand, compare
from condetr.cli.convert import convert
from condetr.cli.demo import demo
from condetr.cli.doctor import doctor
from condetr.cli.evaluate import evaluate
from condetr.cli.explain import explain
from condetr.cli.options import is_first_process
from condetr.cli.predict import predict
from condetr.cli.recipes import config_app, recipes
from condetr.cli.sanity import sanity
from condetr.cli.synth import synth
from condetr.cli.train import train
from condetr.cli.ui import ui
from condetr.cli.weights import weights
from condetr.errors import SUPERVISED, InputError, InputWarning, RunError

FAILED = 1
"""Exit code if a run had to end although its input is valid."""

BAD_INPUT = 2
"""Exit code if the user's input cannot be used; command-line usage errors have the same."""

app = typer.Typer(
    name="condetr",
    help="Detection transformers that converge fast: Conditional DETR for your own data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (demo, synth, doctor, sanity, train, evaluate, predict, explain, ui, compare, convert, weights, recipes):
    app.command(cls=CompareCommand if verb is compare else None)(verb)
app.add_typer(config_app, name="config")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 failed, 2 bad input, 130 interrupted by Ctrl-C, 143 by SIGTERM.

    Bad input, a failure and a warning are one line on stderr; any other exception is a bug and keeps its traceback.
    """
    _escape_what_cannot_be_shown()
    with warnings.catch_warnings():
        warnings.simplefilter("default", InputWarning)
        warnings.showwarning = partial(_show_warning, otherwise=warnings.showwarning)
        try:
            _refuse_empty(sys.argv[1:] if argv is None else argv)
            app(args=argv, prog_name="condetr")
        except (InputError, RunError) as error:
            _end_with(error)
            raise SystemExit(BAD_INPUT if isinstance(error, InputError) else FAILED) from None
        except PermissionError as error:
            _end_with(f"permission denied for {error.filename}: choose another folder, or change its permissions")
            raise SystemExit(BAD_INPUT) from None


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty argument or option, which as a path would be the current folder."""
    for before, argument in zip(("condetr", *arguments), arguments, strict=False):
        if re.fullmatch(r"(--[a-z-]+=)?", argument):
            what = argument or f"the argument after {before}"
            raise InputError(f"{what} is empty, maybe because a variable is not set: give a value, or leave it out")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    *where: Any,  # noqa: ANN401 - file, line and such
    otherwise: Callable[..., None],
) -> None:
    """Print condetr's warnings as a line each, and other libraries' warnings as usual."""
    if issubclass(category, InputWarning):
        if is_first_process():  # of several that warn of the same
            _say(message)
    else:
        otherwise(message, category, *where)


def _end_with(sentence: object) -> None:
    """Say why the command ends, or leave it to the process that started this one."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")  # torch names it, torchrun does too
    if file is None or SUPERVISED not in os.environ:
        _say(sentence)
        return
    told = {"message": str(sentence), "timestamp": time.time(), "is_input": not isinstance(sentence, RunError)}
    Path(file).write_text(json.dumps(told))


def _say(sentence: object) -> None:
    typer.echo(f"condetr: {' '.join(str(sentence).splitlines())}", err=True)


def _escape_what_cannot_be_shown() -> None:
    """Let stdout escape characters in names of files and classes that its encoding lacks, as stderr always does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _show_version(asked: bool) -> bool:  # noqa: FBT001 - called by typer
    if asked:
        typer.echo(f"condetr {condetr.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that come before any verb."""
