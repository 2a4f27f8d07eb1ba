"""What users see: input that cannot be used or may not be meant, runs that cannot go on, what others' errors say."""


class InputError(ValueError):
    """What a user gave cannot be used: one sentence says what was given, what is wrong and what to do.

    The command line prints the sentence and exits with code 2; Python callers may catch it as a ValueError.
    """


class InputWarning(UserWarning):
    """What a user gave can be used but may not be what they meant; the command line prints the sentence and goes on."""


class RunError(RuntimeError):
    """A run had to end although its input is good: one sentence says what happened, what is kept and what to do.

    A full disk and a dead process are examples. The command line prints the sentence and exits with code 1.
    """


def first_line(error: BaseException) -> str:
    """Return what a library's error says first, which is often all that helps; its class if it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
