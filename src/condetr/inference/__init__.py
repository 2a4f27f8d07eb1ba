"""From a trained model folder and an image to detections."""

DEFAULT_THRESHOLD = 0.5
"""The least score of a detection where none is asked for. It is here, as the command line reads it without torch."""
