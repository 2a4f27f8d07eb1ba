"""Detectors on real pictures: epochs and minutes to equal AP, and AP after equal ones, with intervals."""
