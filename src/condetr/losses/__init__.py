"""Matching and losses: one criterion for all detectors, which it never learns to know."""
