"""A run folder: its files, its lock, its loggers, and reading it again."""
