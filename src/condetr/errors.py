"""Errors and warnings for users: unusable input, doubtful input, and runs that cannot continue."""

SUPERVISED = "CONDETR_IS_SUPERVISED"
"""Environment variable of processes that another one started, which says with what sentence they end."""


class InputError(ValueError):
    """The user's input cannot be used; one sentence says what was given, what is wrong and what to do.

    The command line prints the sentence and exits with code 2; Python callers may catch it as a ValueError.
    """


class InputWarning(UserWarning):
    """The input can be used but may not be what the user meant; the command line prints the sentence and continues."""


class RunError(RuntimeError):
    """A run had to end although its input is valid; one sentence says what happened, what is kept and what to do.

    A full disk and a dead process are examples. The command line prints the sentence and exits with code 1.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, which often suffices; its class if the message is empty."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
