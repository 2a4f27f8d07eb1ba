"""The one exception that users see."""


class InputError(ValueError):
    """What a user gave cannot be used: one sentence says what was given, what is wrong and what to do.

    The command line prints the sentence and exits with code 2; Python callers may catch it as a ValueError.
    """
