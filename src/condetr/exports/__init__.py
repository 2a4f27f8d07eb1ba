"""Detectors as graphs for other programs: written, described in the file, and run."""
