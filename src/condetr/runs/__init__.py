"""A run folder: its files, its lock, its loggers, and what it says when it is read again."""
