"""The default score threshold of detections, in Python and on the command line."""

DEFAULT_THRESHOLD = 0.5
