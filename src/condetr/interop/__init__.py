"""Checkpoints of other libraries: read, written, and proven to be the same function."""
