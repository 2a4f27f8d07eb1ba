"""Checkpoints that torch.save wrote, in the hands of strangers.

They are unpickled with torch's restricted reader, which knows tensors, plain containers and argparse.Namespace: a file
that wants anything else is refused before anything in it runs.
"""

import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from condetr.backbones.pickles import load_pickle
from condetr.errors import InputError


def read_pickle(path: Path) -> Mapping[Any, Any]:
    """Return what a checkpoint holds; raises InputError if it is damaged or wants to run anything."""
    try:
        with torch.serialization.safe_globals([Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that torch did not write, which are refused below
            content = load_pickle(path)
    except (FileNotFoundError, PermissionError) as error:
        raise InputError(f"cannot read the checkpoint {path}: {error.strerror or error}") from None
    except UnpicklingError as error:
        raise InputError(f"{path} is refused, nothing in it was run: {_reason(error)}") from None
    except Exception as error:  # what a damaged pickle raises is anyone's guess
        raise InputError(f"{path} is damaged or no checkpoint ({_reason(error)}); download it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, which is no checkpoint")
    return content


def _reason(error: Exception) -> str:
    """Return the telling line of torch's long explanations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = (line for line in lines if "Unsupported" in line or "GLOBAL" in line)
    first = lines[0] if lines and " " in lines[0] else type(error).__name__
    return next(telling, first)[:200]
