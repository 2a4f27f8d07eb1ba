"""Formats of labelling tools: one file each, on two ways to lay data out (`paired`, `listed`)."""
