"""Matching and losses: one criterion, which is independent of the detector."""
