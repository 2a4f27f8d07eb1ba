"""From which score a detection counts, unless the caller says otherwise: in Python and on the command line alike."""

DEFAULT_THRESHOLD = 0.5
