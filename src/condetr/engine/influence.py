"""Which settings do not touch the numbers of a training; the module imports nothing, so that reports start quickly."""

WITHOUT_INFLUENCE = (
    "recipe",
    "data.workers",
    "data.cache_mb",
    "loggers",
    "checkpoint_minutes",
    "process_timeout_minutes",
)
"""Runs that differ in these and the seed are seeds of one setting, and a resumed training may have others."""
