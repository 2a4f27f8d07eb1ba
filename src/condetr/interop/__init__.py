"""Checkpoints of other libraries: reading, writing, and testing that the function stays the same."""
