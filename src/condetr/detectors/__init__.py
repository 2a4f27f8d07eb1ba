"""One file per paper: its settings, its module, and the names of its official weights."""
